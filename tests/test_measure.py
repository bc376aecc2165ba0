import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.data.celeba import ATTRIBUTES, SCHEMA
from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema, PointGroup
from stylematch.errors import UserError
from stylematch.evaluate.intervals import bootstrap
from stylematch.evaluate.measure import measure, subgroup_figures
from stylematch.evaluate.metrics import binary_figures
from stylematch.tables.contract import LANDMARKS

MIXED = LabelSchema(
    (
        BinaryGroup("traits", ("Male", "Smiling", "Goatee")),
        CategoricalGroup("kind", tuple("abcdefg")),
        PointGroup("landmarks", LANDMARKS),
    )
)


def mixed(count, seed=0):
    """Return predictions and targets of all kinds, some of them unknown."""
    rng = np.random.default_rng(seed)
    predictions = {
        "traits": rng.random((count, 3), np.float32),
        "kind": rng.dirichlet(np.ones(7), count).astype(np.float32),
        "landmarks": rng.random((count, 10), np.float32),
    }
    targets = {
        "traits": rng.integers(-1, 2, (count, 3)).astype(np.int8),
        "kind": rng.integers(-1, 7, count),
        "landmarks": np.where(rng.random((count, 1)) < 0.1, np.nan, rng.random((count, 10))).astype(np.float32),
    }
    return predictions, targets


def test_the_interval_of_a_share_is_that_of_the_binomial():
    hit = np.arange(400) < 300
    share = bootstrap(lambda weights: {"share": weights @ hit / weights.sum(1)}, 400)["share"]
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    np.testing.assert_allclose(share, [0.75 - spread, 0.75 + spread], atol=0.006)


def test_a_resample_draws_as_many_pictures_as_there_are():
    seen = []
    bootstrap(lambda weights: seen.append(weights) or {"x": weights[:, 0].astype(float)}, 5000, resamples=100)
    assert (seen.pop(0) == np.ones((1, 5000))).all()  # the figure itself
    weights = np.concatenate(seen)
    assert len(seen) > 1  # in blocks
    assert weights.shape == (100, 5000)
    assert (weights.sum(1) == 5000).all()
    assert len(np.unique(weights, axis=0)) == 100


def test_intervals_follow_from_the_seed():
    values = np.random.default_rng(0).random(50)
    one, same, other = (bootstrap(lambda w: {"m": w @ values / 50}, 50, seed=seed)["m"] for seed in (1, 1, 2))
    assert one == same != other


def test_figures_of_every_kind_hold_their_intervals():
    predictions, targets = mixed(200)
    figures = measure(
        MIXED,
        predictions,
        targets,
        thresholds={"traits": np.full(3, 0.4)},
        mean_shape={"landmarks": np.full(10, 0.5)},
        trained_counts={"kind": np.array([5, 5, 5, 5, 5, 5, 0])},
    )
    assert set(figures["traits"]["intervals"]) == {
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "mean_average_precision",
        "balanced_accuracy_at_thresholds",
        "expected_calibration_error",
    }
    assert set(figures["kind"]["intervals"]) == {
        "accuracy",
        "balanced_accuracy",
        "top5_accuracy",
        "macro_f1",
        "mean_average_precision",
        "expected_calibration_error",
    }
    of_labels = {"traits": {"accuracy", "balanced_accuracy", "f1", "average_precision", "expected_calibration_error"}}
    of_labels["traits"].add("balanced_accuracy_at_threshold")
    of_labels["kind"] = {"precision", "recall", "f1", "average_precision"}
    for group, scores in of_labels.items():
        for label in figures[group]["per_label"].values():
            assert set(label["intervals"]) == scores
            assert all(low <= label[key] <= high for key, (low, high) in label["intervals"].items())
    assert figures["kind"]["never_trained"]["classes"] == {"g": int((targets["kind"] == 6).sum())}
    for group in figures.values():
        for name, (low, high) in group["intervals"].items():
            assert low < group[name] < high, name
    assert figures["landmarks"]["mean_shape_error"] < figures["landmarks"]["normalised_mean_error"]
    assert set(figures["traits"]["subgroups"]) == {"Male"}
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert measure(MIXED, predictions, targets, thresholds={"traits": np.full(3, 0.4)})["traits"] == figures["traits"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_or_no_pictures(count):
    predictions, targets = mixed(count)
    nothing = {"traits": -np.ones_like(targets["traits"]), "kind": -np.ones_like(targets["kind"])}
    nothing["landmarks"] = targets["landmarks"] * np.nan
    for truth in (targets, nothing):
        figures = measure(MIXED, predictions, truth, trained_counts={"kind": np.zeros(7, int)})
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["traits"]["accuracy"] is None
    assert figures["landmarks"]["intervals"] == {"normalised_mean_error": None}


def pairs(figures):
    """Yield every figure that has an interval, with its interval."""
    for group in figures.values():
        for part in (group, *group.get("per_label", {}).values()):
            yield from ((name, part.get(name), ends) for name, ends in part["intervals"].items())


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.floats(0.01, 3.0), st.sampled_from([0.02, 0.5]))
@settings(max_examples=25)
def test_every_figure_is_within_its_interval(count, seed, sharpness, share):
    rng = np.random.default_rng(seed)
    predictions, targets = mixed(count, seed)
    predictions["traits"] = (predictions["traits"] ** sharpness).astype(np.float32)
    targets["traits"] = (rng.random((count, 3)) < share).astype(np.int8)
    for name, figure, ends in pairs(measure(MIXED, predictions, targets)):
        assert (figure is None) == (ends is None), name
        assert figure is None or 0 <= ends[0] <= figure <= ends[1], (name, figure, ends)
        assert figure is None or ends[1] <= 1 or name == "normalised_mean_error", (name, ends)


def test_a_calibration_error_that_grows_under_resampling_is_within_its_interval():
    rng = np.random.default_rng(0)
    said = rng.random((1000, 3)).astype(np.float32)
    truth = (rng.random((1000, 3)) < said).astype(np.int8)  # calibrated: what error there is, chance makes
    schema = LabelSchema((BinaryGroup("traits", ("a", "b", "c")),))
    figures = measure(schema, {"traits": said}, {"traits": truth})["traits"]
    low, high = figures["intervals"]["expected_calibration_error"]
    assert 0 < low < figures["expected_calibration_error"] < high < 0.1


def test_a_group_without_labels_is_not_measured():
    predictions, targets = mixed(10)
    del targets["kind"]
    assert list(measure(MIXED, predictions, targets)) == ["traits", "landmarks"]


def test_positions_hold_a_box_and_landmarks():
    rng = np.random.default_rng(0)
    labels = ("box_x", "box_y", "box_width", "box_height", *LANDMARKS)
    schema = LabelSchema((PointGroup("positions", labels),))
    said, truth = rng.random((50, 14)), rng.random((50, 14))
    truth[:, :4] = np.nan
    figures = measure(schema, {"positions": said}, {"positions": truth}, mean_shape={"positions": truth.mean(0)})
    alone = measure(
        LabelSchema((PointGroup("landmarks", LANDMARKS),)),
        {"landmarks": said[:, 4:]},
        {"landmarks": truth[:, 4:]},
        mean_shape={"landmarks": truth[:, 4:].mean(0)},
    )
    assert figures["positions"]["per_label"]["box_x"]["mean_absolute_error"] is None
    assert {key: figures["positions"][key] for key in alone["landmarks"]} == alone["landmarks"]
    assert figures["positions"]["mean_absolute_error"] == pytest.approx(np.abs(said - truth)[:, 4:].mean(), abs=1e-4)


def test_subgroups_are_compared_over_the_same_labels():
    labels = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [-1, 1, 1]])
    said = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]], float)
    figures = subgroup_figures(said, labels, ["Male", "Smiling", "Goatee"], by=("Male", "Young"))
    assert list(figures) == ["Male"]
    assert figures["Male"]["left_out"] == ["Male", "Goatee"]  # without Male itself, and no woman has a goatee
    assert (figures["Male"]["labels"], figures["Male"]["unknown"]) == (1, 1)
    assert figures["Male"]["1"]["count"] == 3
    assert figures["Male"]["1"]["accuracy"] == round(2 / 3, 4)
    assert figures["Male"]["0"]["accuracy"] == figures["Male"]["0"]["balanced_accuracy"] == 1.0
    assert figures["Male"]["0"]["majority_accuracy"] == 0.5


def test_a_subgroup_of_nobody_has_no_figures():
    labels = np.array([[1, 1], [1, 0]])
    figures = subgroup_figures(labels.astype(float), labels, ["Male", "Smiling"])["Male"]
    assert figures["0"]["count"] == 0
    assert figures["0"]["accuracy"] is None
    assert figures["1"]["accuracy"] == 1.0


def test_what_does_not_fit_together_is_said():
    predictions, targets = mixed(10)
    with pytest.raises(UserError, match="no predictions for the label group 'kind'"):
        measure(MIXED, {"traits": predictions["traits"]}, targets)
    with pytest.raises(UserError, match=r"wants predictions \(10, 3\) .* there are \(9, 3\)"):
        measure(MIXED, predictions | {"traits": predictions["traits"][:9]}, targets)
    broken = predictions["kind"].copy()
    broken[4:6, 2] = np.nan
    with pytest.raises(UserError, match=r"2 of 10 predictions .*'kind' are not finite, the first in row 4"):
        measure(MIXED, predictions | {"kind": broken}, targets)
    with pytest.raises(UserError, match=r"'kind' has a target outside -1 .unknown. to 6"):
        measure(MIXED, predictions, targets | {"kind": targets["kind"] + 7})


@pytest.mark.shared_data
def test_real_labels_have_the_shares_that_they_have(shared_data):
    from stylematch.data.celeba import read_celeba

    folder = read_celeba(shared_data / "celeba_aligned_sample")
    share = folder.attributes.mean(0)
    said = np.broadcast_to(share, folder.attributes.shape)
    points = folder.landmarks_px / 178
    figures = measure(
        SCHEMA,
        {"attributes": said, "landmarks": np.broadcast_to(points.mean(0), points.shape)},
        {"attributes": folder.attributes, "landmarks": points},
        mean_shape={"landmarks": points.mean(0)},
    )
    attributes, landmarks = figures["attributes"], figures["landmarks"]
    assert attributes["accuracy"] == attributes["majority_accuracy"]
    assert attributes["expected_calibration_error"] == 0
    precise = [attributes["per_label"][name]["average_precision"] for name in ATTRIBUTES]
    both = (share > 0) & (share < 1)
    np.testing.assert_allclose(np.array(precise, float)[both], share[both], atol=1e-4)  # of equal scores
    assert landmarks["normalised_mean_error"] == landmarks["mean_shape_error"] == pytest.approx(0.089, abs=0.002)
    assert landmarks["own_mean_shape_error"] == landmarks["mean_shape_error"]
    by_hand = binary_figures(said, folder.attributes, ATTRIBUTES)
    for label in attributes["per_label"].values():
        del label["intervals"]
    assert {key: attributes[key] for key in by_hand} == by_hand
    assert set(attributes["subgroups"]) == {"Male", "Young"}
