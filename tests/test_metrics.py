import json

import numpy as np
import pytest

from stylematch.evaluate.metrics import binary_figures, categorical_figures, landmark_figures

# Left eye, right eye, nose, corners of the mouth; the eyes are 4 apart.
FACE = np.array([3, 3, 7, 3, 5, 5, 3, 8, 7, 8], float)


def test_binary_figures_by_hand():
    #                     hit  miss false right
    probabilities = np.array([[0.9, 0.2, 0.5, 0.49]]).T
    labels = np.array([[1, 1, 0, 0]]).T
    figures = binary_figures(probabilities, labels, ["Smiling"])
    assert figures["per_label"] == {
        "Smiling": {
            "accuracy": 0.5,
            "balanced_accuracy": 0.5,
            "f1": 0.5,
            "majority_accuracy": 0.5,
            "share": 0.5,
        }
    }
    assert figures["count"] == 4


def test_binary_figures_of_unequal_labels():
    # Rare: 1 of 10 positive, found, with 2 false alarms. Never: no positives, 1 false alarm.
    probabilities = np.zeros((10, 2))
    probabilities[:3, 0] = 1
    probabilities[0, 1] = 1
    labels = np.zeros((10, 2), np.int8)
    labels[0, 0] = 1
    figures = binary_figures(probabilities, labels, ["Rare", "Never"])
    rare, never = figures["per_label"]["Rare"], figures["per_label"]["Never"]
    assert rare == {
        "accuracy": 0.8,
        "balanced_accuracy": round((1 + 7 / 9) / 2, 4),
        "f1": 0.5,  # 2 * 1 / (2 * 1 + 2 + 0)
        "majority_accuracy": 0.9,
        "share": 0.1,
    }
    assert never == {
        "accuracy": 0.9,
        "balanced_accuracy": 0.45,  # the recall of the absent class counts as 0
        "f1": 0.0,
        "majority_accuracy": 1.0,
        "share": 0.0,
    }
    assert figures["accuracy"] == 0.85
    assert figures["macro_f1"] == 0.25
    assert figures["majority_accuracy"] == 0.95
    assert figures["balanced_accuracy"] == round(((1 + 7 / 9) / 2 + 0.45) / 2, 4)


def test_perfect_and_opposite_answers():
    labels = np.random.default_rng(0).integers(0, 2, (50, 3))
    names = ["a", "b", "c"]
    right = binary_figures(labels.astype(float), labels, names)
    wrong = binary_figures(1.0 - labels, labels, names)
    assert [right[key] for key in ("accuracy", "balanced_accuracy", "macro_f1")] == [1, 1, 1]
    assert [wrong[key] for key in ("accuracy", "balanced_accuracy", "macro_f1")] == [0, 0, 0]
    assert right["majority_accuracy"] == wrong["majority_accuracy"] >= 0.5


def test_always_the_majority_is_its_own_baseline():
    labels = (np.random.default_rng(1).random((200, 4)) < [0.1, 0.4, 0.6, 0.95]).astype(int)
    majority = np.broadcast_to(labels.mean(0) > 0.5, labels.shape).astype(float)
    figures = binary_figures(majority, labels, list("abcd"))
    assert figures["accuracy"] == figures["majority_accuracy"]
    assert figures["balanced_accuracy"] == 0.5


def test_categorical_figures_by_hand():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    figures = categorical_figures(probabilities, np.array([0, 1, 1, 1]), ["shirt", "coat", "bag"])
    assert figures == {
        "count": 4,
        "accuracy": 0.5,
        "majority_accuracy": 0.75,
        "per_label": {"shirt": {"recall": 1.0}, "coat": {"recall": round(1 / 3, 4)}, "bag": {"recall": 0.0}},
    }


def test_landmark_figures_by_hand():
    moved = FACE.copy()
    moved[[0, 1]] += (0.6, 0.8)  # one point of five by 1, where the eyes are 4 apart
    truth = np.stack([FACE, FACE, FACE * 10, np.where(np.arange(10) == 9, np.nan, FACE)])
    points = np.stack([moved, FACE, moved * 10, FACE])
    figures = landmark_figures(points, truth, FACE)
    each = 1 / 5 / 4
    assert figures["count"] == 3
    assert figures["unknown"] == 1
    assert figures["normalised_mean_error"] == round(2 * each / 3, 4)  # the scale of a face does not matter
    far = np.linalg.norm(9 * FACE.reshape(5, 2), axis=1).mean() / 40
    assert figures["mean_shape_error"] == round(far / 3, 4)


def test_without_known_landmarks_there_is_no_error_to_report():
    unknown = np.full((3, 10), np.nan)
    figures = landmark_figures(np.stack([FACE] * 3), unknown, FACE)
    assert figures == {"count": 0, "unknown": 3, "normalised_mean_error": None, "mean_shape_error": None}


@pytest.mark.filterwarnings("error")
def test_figures_are_plain_json_without_nan():
    rng = np.random.default_rng(2)
    labels = np.zeros((5, 2), np.int8)
    all_figures = [
        binary_figures(rng.random((5, 2), np.float32), labels, ["a", "b"]),
        binary_figures(rng.random((5, 2), np.float32), 1 - labels, ["a", "b"]),
        categorical_figures(rng.random((5, 3), np.float32), np.full(5, 2), ["a", "b", "c"]),
        landmark_figures(np.stack([FACE]), np.stack([FACE * np.nan]), FACE),
    ]
    for figures in all_figures:
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
