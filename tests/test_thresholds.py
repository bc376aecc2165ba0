import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.evaluate import thresholds
from stylematch.evaluate.thresholds import choose_thresholds

SOME = settings(max_examples=40)
ODDS = st.integers(-80, 80).map(lambda tenths: tenths / 10)
PICTURES = st.lists(st.tuples(ODDS, st.booleans()), min_size=4, max_size=60)


def chosen(odds, truth):
    """Return the threshold, in log odds, of one label's pictures."""
    scores = 1 / (1 + np.exp(-np.asarray(odds, float)))
    (threshold,) = choose_thresholds(scores[:, None], np.asarray(truth, np.int8)[:, None])
    return math.log(threshold / (1 - threshold))


def balanced(odds, truth, threshold):
    said = odds >= threshold
    return (said[truth].mean() + (~said[~truth]).mean()) / 2


def empirical(odds, truth):
    """Return the best threshold for these very pictures."""
    middles = np.convolve(np.sort(odds), (0.5, 0.5), "valid")
    return middles[np.argmax([balanced(odds, truth, middle) for middle in middles])]


def drawn(rng, count, share, apart=2.0, wide=1.0):
    """Return pictures of a label whose log odds are normal in both classes."""
    truth = rng.random(count) < share
    return np.where(truth, rng.normal(apart / 2, wide, count), rng.normal(-apart / 2, 1, count)), truth


def test_classes_that_lie_apart_are_cut_between():
    assert chosen([-2, -2, 2, 2], [0, 0, 1, 1]) == pytest.approx(0, abs=0.01)
    assert -1 < chosen([-3, -2, -1, 1, 2, 3], [0, 0, 0, 1, 1, 1]) < 1
    assert -0.5 < chosen([-3, -2, -1, 3], [0, 0, 0, 1]) < 3


def test_where_nothing_can_be_chosen_it_is_a_half():
    scores = np.array([[0.1, 0.2, 0.3, 0.9]]).T
    for labels in ([1, 1, 1, 1], [0, 0, 0, 0], [1, -1, -1, -1], [-1, -1, -1, -1]):
        assert choose_thresholds(scores, np.array([labels]).T)[0] == 0.5
    assert choose_thresholds(np.full((4, 1), 0.3), np.array([[0, 1, 0, 1]]).T)[0] == 0.5
    assert choose_thresholds(scores[:0], np.zeros((0, 1), np.int8))[0] == 0.5


def test_what_is_unknown_is_left_out_and_labels_do_not_know_of_each_other():
    rng = np.random.default_rng(0)
    odds, truth = drawn(rng, 400, 0.3)
    more, other = drawn(rng, 400, 0.5, apart=4)
    scores = 1 / (1 + np.exp(-np.stack([odds, more], 1)))
    labels = np.stack([truth, other], 1).astype(np.int8)
    labels[::3, 0] = -1
    known = labels[:, 0] >= 0
    both = choose_thresholds(scores, labels)
    assert both[0] == choose_thresholds(scores[known, :1], labels[known, :1])[0]
    assert both[1] == choose_thresholds(scores[:, 1:], labels[:, 1:])[0]


@pytest.mark.parametrize("share", [0.5, 0.05])
@pytest.mark.parametrize(("wide", "crossing"), [(1.0, 0.0), (2.0, 0.2376)])  # where both densities are equal
def test_of_many_pictures_it_is_where_both_densities_cross(share, wide, crossing):
    odds, truth = drawn(np.random.default_rng(1), 40_000, share, wide=wide)
    assert chosen(odds, truth) == pytest.approx(crossing, abs=0.12)


def test_it_holds_better_for_pictures_that_it_was_not_chosen_on_than_the_best_of_those_it_was():
    rng = np.random.default_rng(2)
    large = drawn(rng, 20_000, 0.5)
    gains = []
    for _ in range(100):
        odds, truth = drawn(rng, 150, 0.1)
        gains.append(balanced(*large, chosen(odds, truth)) - balanced(*large, empirical(odds, truth)))
    assert np.mean(gains) > 3 * np.std(gains) / 10
    assert np.mean(gains) > 0.002


@SOME
@given(PICTURES, st.floats(-3, 3), st.randoms(use_true_random=False))
def test_order_shift_and_sides_change_it_as_they_should(pictures, shift, random):
    odds, truth = np.array([row[0] for row in pictures]), np.array([row[1] for row in pictures])
    found = chosen(odds, truth)
    assert min(odds) - 1e-6 <= found <= max(odds) + 1e-6 or found == 0
    order = random.sample(range(len(odds)), len(odds))
    assert chosen(odds[order], truth[order]) == found
    if truth.all() or not truth.any() or np.ptp(odds) == 0:
        return
    merit = smoothed(odds, truth)
    assert merit(chosen(odds + shift, truth) - shift) == pytest.approx(merit(found), abs=1e-4)
    assert merit(-chosen(-odds, ~truth)) == pytest.approx(merit(found), abs=1e-4)


def smoothed(odds, truth):
    """Return the smoothed merit of a threshold, written down plainly."""
    parts = [(odds[kept], thresholds._bandwidth(np.sort(odds[kept]))) for kept in (truth, ~truth)]

    def merit(threshold):
        above = [np.mean(1 / (1 + np.exp(-1.702 * (values - threshold) / width))) for values, width in parts]
        return above[0] - above[1]

    return merit


@SOME
@given(PICTURES)
def test_no_place_is_better_than_the_chosen(pictures):
    odds, truth = np.array([row[0] for row in pictures]), np.array([row[1] for row in pictures])
    if truth.all() or not truth.any() or np.ptp(odds) == 0:
        return
    merit = smoothed(odds, truth)
    places = np.linspace(min(odds), max(odds), 1001)
    assert merit(chosen(odds, truth)) >= max(map(merit, places)) - 1e-6


def test_many_pictures_are_looked_at_in_parts(monkeypatch):
    odds, truth = drawn(np.random.default_rng(3), 500, 0.2)
    whole = chosen(odds, truth)
    monkeypatch.setattr(thresholds, "_AT_ONCE", 1)
    assert chosen(odds, truth) == whole


def test_certain_answers_are_no_infinities():
    scores = np.array([0, 0, 0.5, 1, 1], np.float32)[:, None]
    (threshold,) = choose_thresholds(scores, np.array([[0, 0, 1, 1, 1]]).T)
    assert 0 < threshold <= 0.5
