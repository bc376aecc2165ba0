import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.evaluate.calibration import (
    calibration_errors,
    calibration_figures,
    expected_calibration_error,
    fit_temperatures,
    probabilities_of,
    reliability_bins,
)


def nll(logits, labels, temperature):
    """Mean negative log-likelihood of one binary label."""
    scaled = logits / temperature
    return np.mean(np.logaddexp(0, scaled) - labels * scaled)


def test_bins_are_open_below_and_closed_above():
    confidence = np.array([0.0, 1 / 15, 0.07, 1.0])
    said, _, rows = reliability_bins(confidence, np.array([False, True, True, True]))
    assert rows.tolist() == [2, 1, *[0] * 12, 1]
    assert said[0] == pytest.approx(1 / 30)
    assert np.isnan(said[2])


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.3])
    hit = np.array([True, True, True, False, False])
    assert expected_calibration_error(confidence, hit) == pytest.approx((4 * 0.15 + 0.3) / 5)
    assert np.isnan(expected_calibration_error(confidence[:0], hit[:0]))


def test_a_coin_that_is_called_a_coin_is_calibrated():
    labels = np.tile([[0, 1], [1, 0]], (50, 1))
    assert calibration_errors(np.full((100, 2), 0.5), labels).tolist() == [0, 0]
    assert calibration_errors(np.full((100, 2), 1.0), labels).tolist() == [0.5, 0.5]
    assert np.isnan(calibration_errors(np.full((100, 2), 1.0), np.full((100, 2), -1))).all()


def test_the_temperature_that_made_the_labels_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (50_000, 3))
    true = np.array([0.5, 1.0, 3.0])
    labels = (rng.random(logits.shape) < probabilities_of(logits / true, "binary")).astype(np.int8)
    np.testing.assert_allclose(fit_temperatures(logits, labels), true, rtol=0.05)
    hidden = labels.copy()
    hidden[25_000:] = -1
    logits[25_000:] = 100  # of unknown rows nothing is heeded
    np.testing.assert_allclose(fit_temperatures(logits, hidden), true, rtol=0.08)


def test_one_temperature_for_all_classes():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (20_000, 4)) + 500  # what all classes share does not count, and overflows nothing
    share = probabilities_of(logits / 2, "categorical")
    labels = (rng.random((20_000, 1)) > share.cumsum(1)).sum(1).clip(max=3)
    labels[::3] = -1
    fitted = fit_temperatures(logits, labels)
    assert fitted.shape == (1,)
    assert fitted[0] == pytest.approx(2, rel=0.05)
    before, after = (
        calibration_errors(probabilities_of(logits / t, "categorical"), labels)[0] for t in (np.ones(1), fitted)
    )
    assert after < before / 5


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_no_temperature_is_likelier_than_the_fitted(seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (30, 2)), rng.integers(0, 2, (30, 2))
    for column, fitted in enumerate(fit_temperatures(logits, labels)):
        if len(set(labels[:, column])) == 1:
            assert fitted == 1
            continue
        best = nll(logits[:, column], labels[:, column], fitted)
        tried = np.geomspace(0.1, 10, 200)
        assert best <= min(nll(logits[:, column], labels[:, column], t) for t in tried) + 1e-9
        assert 0.1 <= fitted <= 10


def test_where_there_is_nothing_to_fit_the_temperature_stays():
    assert fit_temperatures(np.ones((4, 2)), np.array([[1, -1]] * 4)).tolist() == [1, 1]
    assert fit_temperatures(np.zeros((4, 1)), np.array([[0], [1], [0], [1]])).tolist() == [1]
    assert fit_temperatures(np.ones((4, 3)), np.array([0, 1, 2, 0])).tolist() == [1]
    assert fit_temperatures(np.ones((4, 3)), np.full(4, -1)).tolist() == [1]


def test_of_one_class_alone_a_group_is_not_made_surer():
    logits = np.array([[2.0, 1.0, 0.0], [3.0, 1.0, 2.0], [0.5, 0.0, 0.1]])
    np.testing.assert_array_equal(fit_temperatures(logits, np.array([0, 0, -1])), [1.0])
    assert fit_temperatures(logits, np.array([0, 0, 1])) != 1


def test_separable_labels_stop_at_the_bound():
    assert fit_temperatures(np.array([[-1.0], [1.0]]), np.array([[0], [1]]))[0] == pytest.approx(0.1)
    assert fit_temperatures(np.array([[1.0], [-1.0]]), np.array([[0], [1]]))[0] == pytest.approx(10)


def test_figures_before_and_after():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1, (5000, 2))
    labels = (rng.random(logits.shape) < probabilities_of(logits / np.full(2, 0.25), "binary")).astype(np.int8)
    fitted = fit_temperatures(logits, labels)
    figures = calibration_figures(logits, logits / fitted, labels, fitted, ["a", "b"])
    assert figures["pictures"] == 5000
    assert figures["expected_calibration_error_after"] < figures["expected_calibration_error_before"] / 5
    assert figures["temperature"]["a"] == pytest.approx(0.25, rel=0.1)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    unknown = calibration_figures(logits, logits, np.full(5000, -1), np.ones(1), ["kind"])
    assert unknown == {
        "pictures": 5000,
        "expected_calibration_error_before": None,
        "expected_calibration_error_after": None,
        "temperature": {"kind": 1.0},
    }
