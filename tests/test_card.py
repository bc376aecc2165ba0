import json
import re

import numpy as np
import pytest
from conftest import REPOSITORY

from stylematch.data.celeba import LICENCE
from stylematch.evaluate.calibration import calibration_figures
from stylematch.evaluate.card import card_text, write_card
from stylematch.evaluate.measure import measure
from stylematch.tables.contract import LANDMARKS
from stylematch.vision.bundle import Bundle

DEFAULT = REPOSITORY / "indexes" / "default"


def a_bundle(tmp_path, *groups, name="small", licence=LICENCE):
    """Return a bundle of which only the description is there; a card needs no more."""
    schema = [{"name": n, "kind": kind, "labels": list(labels)} for n, kind, labels in groups]
    architecture = {"backbone": "mobilenet_v2", "embedding_dim": 8}
    described = {"name": name, "licence": licence, "parameters": 1234567, "schema": schema}
    described |= {"architecture": architecture, "input": {"side_px": 64, "channels": 3}}
    return Bundle(tmp_path, described, "")


def figures_of(measured, dataset="celeba", **more):
    job = {"name": "a-job", "sha256": "", "settings": {"data": {"dataset": dataset}}}
    return {"job": job, "learned_from": 1000, "measured": measured, **more}


def cells(card, start):
    """Return the cells of the first row that starts with ``start``."""
    row = next(line for line in card.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


@pytest.fixture(scope="module")
def face_figures():
    rng = np.random.default_rng(0)
    names = ("Male", "Young", "Smiling", "Never")
    labels = rng.integers(0, 2, (60, 4))
    labels[:, 3] = 0
    said = {"attributes": rng.random((60, 4)), "landmarks": rng.random((60, 10))}
    truth = {"attributes": labels, "landmarks": rng.random((60, 10))}
    groups = (("attributes", "binary", names), ("landmarks", "points", LANDMARKS))
    schema = a_bundle(None, *groups).schema
    shape = {"landmarks": np.full(10, 0.5)}
    return groups, measure(schema, said, truth, thresholds={"attributes": np.full(4, 0.4)}, mean_shape=shape), labels


def test_the_card_says_how_the_network_computes(tmp_path, face_figures):
    groups, measured, _ = face_figures
    bundle = a_bundle(tmp_path, *groups)
    plain = card_text(bundle, figures_of({"mine": measured}))
    bundle.description["architecture"] |= {"int8": True, "mirror": True}
    network = next(line for line in card_text(bundle, figures_of({"mine": measured})).splitlines() if "Network" in line)
    mirrored, whole = (
        ", answers by the mean of a picture and its mirror image",
        ", computes in whole numbers of eight bits",
    )
    assert network.endswith(mirrored + whole)
    assert "whole numbers" not in plain
    assert "mirror" not in plain


def test_the_card_of_a_face_model(tmp_path, face_figures):
    groups, measured, labels = face_figures
    fitted = calibration_figures(np.zeros((60, 4)), np.zeros((60, 4)), labels, np.full(4, 1.5), groups[0][2])
    # What a folder is called says nothing.
    points = {"celeba_aligned_sample": "pseudo-labels of <me>", "mine": "official points", "celeba test": None}
    by_title = {
        title: {**measured, "landmarks": measured["landmarks"] | ({"points_source": source} if source else {})}
        for title, source in points.items()
    }
    figures = figures_of(by_title, calibration={"attributes": fitted}, data={"no_face": 7})
    bundle = a_bundle(tmp_path, *groups)
    bundle.description["thresholds"] = {"attributes": dict.fromkeys(groups[0][2], 0.4)}
    write_card(bundle, json.loads(json.dumps(figures)))
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "non-commercial research" in card.partition("## Data")[2]
    assert "- no face: 7" in card
    assert "not for surveillance" in card.partition("## Must not be used for")[2]
    attributes, landmarks = measured["attributes"], measured["landmarks"]
    low, high = attributes["intervals"]["accuracy"]
    assert cells(card, "accuracy") == [
        "accuracy",
        f"{attributes['accuracy']:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{attributes['majority_accuracy']:.3f}",
    ]
    assert cells(card, "normalised mean error")[-1] == f"{landmarks['mean_shape_error']:.3f}"
    assert cells(card, "Male = 1")[1] == str(int(labels[:, 0].sum()))
    assert "one class labels 1" in card
    never = dict(zip(cells(card, "attributes"), cells(card, "Never"), strict=True))
    assert never["f1"] == never["balanced accuracy"] == "\N{EN DASH}"
    low, high = attributes["per_label"]["Never"]["intervals"]["accuracy"]
    assert never["accuracy"] == f"{attributes['per_label']['Never']['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    assert never["threshold"] == "0.400"
    pseudo, official, unknown = card.partition("## Calibration")[0].split("### ")[1:]
    assert "**landmarks, against pseudo-labels of \\<me\\>**" in pseudo
    assert "**landmarks, against official points**" in official
    assert "**landmarks, against points of unknown origin**" in unknown
    assert "points source" not in card
    calibration = card.partition("## Calibration")[2]
    before, after = fitted["expected_calibration_error_before"], fitted["expected_calibration_error_after"]
    assert cells(calibration, "attributes")[1:] == ["60", f"{before:.3f}", f"{after:.3f}"]
    assert cells(calibration, "Male") == ["Male", "1.500", "0.400"]


def test_the_card_says_what_it_counts(tmp_path):
    groups = (("tags", "binary", ("a", "b")), ("kind", "categorical", ("c", "d")))
    bundle = a_bundle(tmp_path, *groups)
    truth = {"tags": np.array([[1, -1], [0, -1], [-1, -1]]), "kind": np.array([0, -1, 1])}
    measured = measure(bundle.schema, {name: np.full((3, 2), 0.5) for name in truth}, truth)
    card = card_text(bundle, figures_of({"mine": measured}, "table"))
    assert (
        "**tags**: count 3, cells (a picture's label) that are unknown 4, labels without any known picture 1, " in card
    )
    assert "**kind**: count 2, pictures without a known label 1" in card


def test_the_card_of_categories(tmp_path):
    rng = np.random.default_rng(1)
    groups = ("articleType", "categorical", [f"type {k}" for k in range(8)])
    bundle = a_bundle(tmp_path, groups, licence="none")
    said, truth = rng.dirichlet(np.ones(8), 50), rng.integers(0, 7, 50)
    measured = measure(
        bundle.schema,
        {"articleType": said},
        {"articleType": truth},
        trained_counts={"articleType": np.array([9] * 6 + [0, 0])},
    )
    card = card_text(bundle, figures_of({"odd years": measured}, "fashion-product"))
    values = measured["articleType"]
    assert cells(card, "top-5 accuracy")[-1] == f"{values['majority_top5_accuracy']:.3f}"
    assert f"pictures here: type 6 ({values['never_trained']['count']}); 1 more have none. Accuracy" in card
    assert f"Best classes by recall: {values['best_classes'][0]['name']} (" in card
    never = values["per_label"]["type 7"]
    shown = dict(zip(cells(card, "articleType"), cells(card, "type 7"), strict=True))
    assert (shown["recall"], shown["average precision"], shown["support"]) == ("\N{EN DASH}", "\N{EN DASH}", "0")
    assert shown["precision"].startswith("\N{EN DASH}" if never["precision"] is None else f"{never['precision']:.3f}")
    low, high = values["per_label"]["type 0"]["intervals"]["recall"]
    recall = cells(card, "type 0")[cells(card, "articleType").index("recall")]
    assert recall == f"{values['per_label']['type 0']['recall']:.3f} ({low:.3f} to {high:.3f})"
    assert cells(card, "balanced accuracy")[-1] == f"{1 / 7:.3f}"  # seven types occur
    assert "celebrities" not in card


def test_names_among_what_was_left_out_are_a_sentence_not_a_list_of_pythons(tmp_path):
    figures = {**figures_of({}, "fashion-product"), "data": {"types that nobody has": ["Ties", "Men's *Hats*"]}}
    card = card_text(a_bundle(tmp_path, ("shoes", "categorical", ["a", "b"])), figures)
    assert "\n- types that nobody has: Ties, Men's \\*Hats\\*\n" in card


def test_a_group_and_a_data_set_that_are_new(tmp_path):
    card = card_text(a_bundle(tmp_path, ("shoes", "categorical", ["a", "b"])), figures_of({}, "shoe-box"))
    assert "Predicting the group shoes of pictures" in card
    assert "The data set shoe-box; its own licence holds." in card
    assert "not for any decision about a person" in card
    assert "## Calibration" not in card
    with_more = card_text(
        a_bundle(tmp_path, ("shoes", "categorical", ["a", "b"])),
        figures_of({}, "shoe-box", data={"dropped": {"no file": 1200, "twice": 3}}, calibration={"shoes": {}}),
    )
    assert "- dropped: no file 1,200, twice 3" in with_more


def test_names_are_never_markup(tmp_path):
    hostile = "a|b`c\n# d <b>*x*_y_"
    labels = np.array([[0, 1], [1, 0]])
    bundle = a_bundle(tmp_path, (hostile, "binary", [hostile, "snake_case"]), name=hostile)
    measured = measure(bundle.schema, {hostile: labels * 1.0}, {hostile: labels})
    card = card_text(bundle, figures_of({hostile: measured}, hostile))
    escaped = r"a\|b\`c\\n# d \<b\>\*x\*\_y\_"
    assert card.startswith(f"# {escaped}\n")
    assert hostile not in card
    assert len([line for line in card.splitlines() if line.startswith("# ")]) == 1
    table = [line for line in card.splitlines() if line.startswith(f"| {escaped} |")]
    assert len({len(cells(line, escaped)) for line in table}) == 1
    assert "| snake_case |" in card


def test_a_model_that_started_calibrated_says_what_before_is(tmp_path, face_figures):
    groups, measured, labels = face_figures
    fitted = calibration_figures(np.zeros((60, 4)), np.zeros((60, 4)), labels, np.ones(4), groups[0][2])
    said = []
    for start in (None, "runs/before/checkpoints/last.ckpt", "runs/before/bundle"):
        figures = figures_of({"celeba test": measured}, calibration={"attributes": fitted})
        figures["job"]["settings"]["model"] = {"start_from": start}
        said.append('"before" is no uncalibrated network' in card_text(a_bundle(tmp_path, *groups), figures))
    assert said == [False, False, True]


@pytest.mark.skipif(not DEFAULT.is_dir(), reason="indexes/default is not built yet: make default-index")
@pytest.mark.parametrize("name", ["attributes", "garments"])
def test_the_figures_of_the_shipped_models_make_a_card(name):
    bundle = Bundle.open(DEFAULT / name)
    figures = json.loads((bundle.directory / "figures.json").read_text())
    card = card_text(bundle, figures)
    for data_set, groups in figures["measured"].items():
        assert f"### {data_set}" in card
        for values in groups.values():
            for key in ("accuracy", "normalised_mean_error"):
                assert values.get(key) is None or f" {values[key]:.3f} |" in card
    for paragraph in card.split("\n\n"):
        rows = [line.count("|") for line in paragraph.splitlines() if line.startswith("|")]
        assert len(set(rows)) <= 1
