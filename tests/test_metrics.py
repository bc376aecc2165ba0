import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.evaluate.metrics import binary_figures, categorical_figures, coordinate_figures, landmark_figures
from stylematch.evaluate.scores import binary_scores, categorical_scores, ranking_scores

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
            "average_precision": 0.75,  # the positives come first and fourth: (1/1 + 2/4) / 2
            "expected_calibration_error": round((0.1 + 0.8 + 2 * 0.495) / 4, 4),  # 0.5 and 0.49 share a bin
            "majority_accuracy": 0.5,
            "share": 0.5,
            "count": 4,
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
        "average_precision": 0.3333,  # one of three equal scores: no order among them is better than another
        "expected_calibration_error": 0.2,
        "majority_accuracy": 0.9,
        "share": 0.1,
        "count": 10,
    }
    assert never == {
        "accuracy": 0.9,
        "balanced_accuracy": None,
        "f1": None,
        "average_precision": None,
        "expected_calibration_error": 0.1,
        "majority_accuracy": 1.0,
        "share": 0.0,
        "count": 10,
    }
    assert (figures["accuracy"], figures["majority_accuracy"]) == (0.85, 0.95)
    assert (figures["macro_f1"], figures["mean_average_precision"]) == (0.5, 0.3333)
    assert figures["balanced_accuracy"] == round((1 + 7 / 9) / 2, 4)
    assert (figures["one_class_labels"], figures["unknown_labels"]) == (1, 0)


def test_unknown_labels_are_left_out_label_by_label():
    rng = np.random.default_rng(3)
    probabilities, labels = rng.random((40, 3)), rng.integers(0, 2, (40, 3)).astype(np.int8)
    labels[10:, 0], labels[:, 2] = -1, -1
    figures = binary_figures(probabilities, labels, ["a", "b", "c"], thresholds=np.array([0.3, 0.4, 0.5]))
    alone = binary_figures(probabilities[:10, :1], labels[:10, :1], ["a"], thresholds=np.array([0.3]))
    assert figures["per_label"]["a"] == alone["per_label"]["a"]
    assert figures["unknown_labels"] == 1
    assert figures["unknown_cells"] == 30 + 40
    assert {v for k, v in figures["per_label"]["c"].items() if k not in ("count", "threshold")} == {None}
    both = [figures["per_label"][name]["balanced_accuracy_at_threshold"] for name in "ab"]
    assert figures["balanced_accuracy_at_thresholds"] == pytest.approx(np.mean(both), abs=1e-4)


def test_thresholds_of_their_own():
    probabilities, labels = np.array([[0.1, 0.1, 0.3, 0.2]]).T, np.array([[0, 0, 1, 1]]).T
    figures = binary_figures(probabilities, labels, ["a"], thresholds=np.array([0.2]))
    assert figures["balanced_accuracy"] == 0.5
    assert figures["balanced_accuracy_at_thresholds"] == 1.0  # yes from the threshold on
    assert figures["per_label"]["a"]["threshold"] == 0.2


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


def ranked(average_precision, support):
    return {"average_precision": average_precision, "support": support}


def test_categorical_figures_by_hand():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.2, 0.7]])
    figures = categorical_figures(probabilities, np.array([0, 1, 1, 1]), ["shirt", "coat", "bag"])
    assert figures == {
        "count": 4,
        "unknown": 0,
        "accuracy": 0.5,
        "balanced_accuracy": round((1 + 1 / 3) / 2, 4),
        "mean_average_precision": round((1 + 2.75 / 3) / 2, 4),
        "majority_balanced_accuracy": 0.5,
        "macro_f1": round((2 / 3 + 1 / 2 + 0) / 3, 4),  # the bag was answered, and wrongly
        "majority_accuracy": 0.75,
        # 0.6 right, 0.7 wrong; both 0.5 share a bin: one of two right
        "expected_calibration_error": round((0.4 + 0.7 + 0) / 4, 4),
        "best_classes": [
            {"name": "shirt", "recall": 1.0, "support": 1},
            {"name": "coat", "recall": round(1 / 3, 4), "support": 3},
        ],
        "per_label": {
            "shirt": {"precision": 0.5, "recall": 1.0, "f1": round(2 / 3, 4)} | ranked(1.0, 1),
            "coat": {"precision": 1.0, "recall": round(1 / 3, 4), "f1": 0.5} | ranked(round(2.75 / 3, 4), 3),
            "bag": {"precision": 0.0, "recall": None, "f1": 0.0} | ranked(None, 0),
        },
    }


def test_five_answers_of_many():
    probabilities = np.array([[6, 5, 4, 3, 2, 1, 0], [0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6]]) / 21
    figures = categorical_figures(probabilities, np.array([4, 5, 1]), list("abcdefg"))
    assert figures["top5_accuracy"] == round(1 / 3, 4)  # of equal scores, the first count as answered
    assert figures["majority_top5_accuracy"] == 1.0
    assert "top5_accuracy" not in categorical_figures(probabilities[:, :5], np.array([4, 3, 1]), list("abcde"))


def test_classes_that_were_never_trained_are_scored_apart():
    said = np.array([0, 0, 1, 1, 2, 0])
    labels = np.array([0, 0, 1, 0, 3, -1])
    figures = categorical_figures(np.eye(5)[said], labels, list("abcde"), trained_counts=np.array([9, 9, 9, 0, 0]))
    assert (figures["count"], figures["unknown"], figures["accuracy"]) == (5, 1, 0.6)
    assert (figures["count_seen"], figures["accuracy_seen"]) == (4, 0.75)
    assert figures["majority_accuracy_seen"] == 0.75
    assert figures["never_trained"] == {"count": 1, "accuracy": 0.0, "classes": {"d": 1, "e": 0}}


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
    assert figures == {"count": 0, "unknown": 3, "normalised_mean_error": None} | dict.fromkeys(
        ("mean_shape_error", "own_mean_shape_error")
    )


def test_a_face_without_distance_between_its_eyes_is_unknown():
    flat = FACE.copy()
    flat[2:4] = flat[:2]
    assert landmark_figures(np.stack([FACE, FACE]), np.stack([FACE, flat]), None) == {
        "count": 1,
        "unknown": 1,
        "normalised_mean_error": 0.0,
        "mean_shape_error": None,
        "own_mean_shape_error": 0.0,
    }


def test_coordinates_are_known_or_not_column_by_column():
    answers, truth = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.4, np.nan], [0.7, np.nan]])
    figures = coordinate_figures(answers, truth, ["x", "y"], np.array([0.4, 0.1]))
    assert figures["count"] == 2
    assert figures["mean_absolute_error"] == figures["mean_answer_error"] == 0.15
    assert figures["per_label"]["y"] == {"mean_absolute_error": None, "mean_answer_error": None}


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


@given(st.integers(0, 10**6), st.integers(2, 30))
@settings(max_examples=50)
def test_a_weight_counts_as_that_many_pictures(seed, count):
    """What the bootstrap rests on: weights give what repeated rows give."""
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 4, count)
    probabilities = rng.integers(0, 6, (count, 3)) / 5  # many equal scores
    labels = rng.integers(-1, 2, (count, 3))
    weights, cut = np.stack([times, np.ones(count)]).astype(np.float32), np.full(3, 0.3)
    repeated = np.repeat(np.arange(count), times)
    weighted = binary_scores(probabilities, labels, weights, cut)
    once = np.ones((1, len(repeated)), np.float32)
    for name, values in binary_scores(probabilities[repeated], labels[repeated], once, cut).items():
        np.testing.assert_allclose(weighted[name][0], values[0], rtol=1e-12, atol=1e-14)
    categories = rng.integers(0, 3, count)
    every = (categorical_scores, ranking_scores)
    weighted = {name: values for scores in every for name, values in scores(probabilities, categories, weights).items()}
    again = [scores(probabilities[repeated], categories[repeated], once) for scores in every]
    for name, values in (again[0] | again[1]).items():
        np.testing.assert_allclose(weighted[name][0], values[0], rtol=1e-12, atol=1e-14)


@pytest.mark.train
@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_torchmetrics_says_the_same_of_binary_labels(seed):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[[0, 1], [1, 0]], rng.integers(-1, 2, (40, 2))])
    probabilities = (rng.integers(1, 30, labels.shape) / 30).astype(np.float32)
    figures = binary_figures(probabilities, labels, ["a", "b"])["per_label"]
    for column, name in enumerate(("a", "b")):
        known = labels[:, column] >= 0
        said, truth = torch.tensor(probabilities[known, column]), torch.tensor(labels[known, column])
        same = {
            "accuracy": functional.binary_accuracy(said.double(), truth, threshold=0.4999),
            "f1": functional.binary_f1_score(said.double(), truth, threshold=0.4999),
            "average_precision": functional.binary_average_precision(said, truth, thresholds=None),
        }
        for key, value in same.items():
            assert figures[name][key] == pytest.approx(float(value), abs=6e-5), key


@pytest.mark.train
def test_torchmetrics_says_the_same_of_categories():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'stylematch[train]'")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(4)
    labels = rng.integers(-1, 7, 300)  # class 7 never occurs
    probabilities = rng.dirichlet(np.ones(8), 300)
    probabilities[np.arange(300), labels] += 0.3
    probabilities /= probabilities.sum(1, keepdims=True)
    figures = categorical_figures(probabilities, labels, list("abcdefgh"))
    known = labels >= 0
    said, truth = torch.tensor(probabilities[known]), torch.tensor(labels[known])
    same = {
        "accuracy": functional.multiclass_accuracy(said, truth, 8, average="micro"),
        "top5_accuracy": functional.multiclass_accuracy(said, truth, 8, top_k=5, average="micro"),
        "macro_f1": functional.multiclass_f1_score(said, truth, 8),
        "balanced_accuracy": functional.multiclass_accuracy(said, truth, 8, average="none")[:7].mean(),
        "mean_average_precision": functional.multiclass_average_precision(said, truth, 8, average="none")[:7].mean(),
        "expected_calibration_error": functional.multiclass_calibration_error(said, truth, 8, n_bins=15),
    }
    for key, value in same.items():
        assert figures[key] == pytest.approx(float(value), abs=6e-5), key
    precision = functional.multiclass_precision(said, truth, 8, average=None)
    assert figures["per_label"]["c"]["precision"] == pytest.approx(float(precision[2]), abs=6e-5)
