import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylematch.evaluate import lists as lists_module
from stylematch.evaluate.lists import intra_list_diversity, list_figures, most_popular_lists, random_lists

ITEMS = 12
VECTORS = np.random.default_rng(0).normal(size=(ITEMS, 4))
VECTORS = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def some_lists(draw):
    """Return lists without doubles, some short, some empty; at least one person."""
    rows = draw(st.lists(st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=4), min_size=1, max_size=8))
    return np.array([row + [-1] * (4 - len(row)) for row in rows], np.int64)


@given(some_lists())
def test_figures_are_those_of_the_definitions(lists):
    figures = list_figures(lists, ITEMS, VECTORS.__getitem__, wanted=4)
    people = [[item for item in row if item >= 0] for row in lists.tolist()]
    flat = list(itertools.chain.from_iterable(people))
    assert figures["catalogue_coverage"] == pytest.approx(len(set(flat)) / ITEMS, abs=1e-6)
    entropy = (
        -sum(flat.count(i) / len(flat) * math.log2(flat.count(i) / len(flat)) for i in set(flat)) if flat else None
    )
    assert figures["distributional_coverage_bits"] == (None if entropy is None else pytest.approx(entropy, abs=1e-6))
    diversity = [
        np.mean([1 - float(VECTORS[a] @ VECTORS[b]) for a, b in itertools.combinations(row, 2)])
        for row in people
        if len(row) > 1
    ]
    novelty = [np.mean([-math.log2(flat.count(item) / len(people)) for item in row]) for row in people if row]
    for name, values in (("intra_list_diversity", diversity), ("novelty_bits", novelty)):
        mean = figures[name]["mean"]
        assert mean == (pytest.approx(np.mean(values), abs=1e-5) if values else None)
        assert figures[name]["failed_as_zero"]["mean"] == pytest.approx(sum(values) / len(people), abs=1e-5)
    assert figures["short_lists"]["mean"] == pytest.approx(np.mean([len(row) < 4 for row in people]), abs=1e-6)


def test_known_lists():
    vectors = np.eye(4, dtype=np.float32)
    same = list_figures(np.tile([0, 1], (8, 1)), 4, vectors.__getitem__, wanted=2)
    assert same["catalogue_coverage"] == 0.5
    assert same["distributional_coverage_bits"] == 1
    assert same["novelty_bits"]["mean"] == 0  # what everybody gets is no news
    assert same["intra_list_diversity"]["mean"] == 1
    assert same["short_lists"]["mean"] == 0
    own = list_figures(np.arange(4)[:, None], 4, vectors.__getitem__, wanted=2)
    assert (own["catalogue_coverage"], own["distributional_coverage_bits"], own["novelty_bits"]["mean"]) == (1, 2, 2)
    assert own["intra_list_diversity"]["mean"] is None
    assert own["intra_list_diversity"]["failed_as_zero"]["mean"] == 0
    assert own["short_lists"]["mean"] == 1


def test_nobody_has_no_figures():
    figures = list_figures(np.empty((0, 0), np.int64), 5, VECTORS.__getitem__, wanted=5)
    assert figures["catalogue_coverage"] == 0
    assert figures["distributional_coverage_bits"] is None
    assert figures["novelty_bits"]["mean"] is None


def test_blocks_change_nothing(monkeypatch):
    lists = random_lists(50, 4, ITEMS, 0)
    lists[::7, 2:] = -1
    whole = intra_list_diversity(lists, VECTORS.__getitem__)
    monkeypatch.setattr(lists_module, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(intra_list_diversity(lists, VECTORS.__getitem__), whole, rtol=1e-12)


def test_random_lists_have_no_doubles_and_reach_every_item_alike():
    lists = random_lists(3000, 4, ITEMS, 1)
    assert all(len(set(row)) == 4 for row in lists.tolist())
    np.testing.assert_allclose(np.bincount(lists.ravel(), minlength=ITEMS) / 3000, 4 / ITEMS, atol=0.04)
    assert (random_lists(3000, 4, ITEMS, 1) == lists).all()
    assert (random_lists(3000, 4, ITEMS, 2) != lists).any()
    assert random_lists(2, 9, 3, 0).shape == (2, 3)  # a catalogue of fewer items


def test_most_popular_is_one_list_by_how_many_get_an_item():
    lists = np.array([[5, 2, 1], [2, 5, -1], [2, 9, -1]])
    assert most_popular_lists(lists, 3, ITEMS).tolist() == [[2, 5, 1]] * 3  # 1 and 9 once each: by position
