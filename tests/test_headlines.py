import json

from program import DEFAULT_INDEX

from stylematch.evaluate.headlines import FIGURE_NAMES, headlines

ATTRIBUTES = {
    "count": 1937,
    "accuracy": 0.9059,
    "balanced_accuracy": None,
    "macro_f1": 0.681,
    "majority_accuracy": 0.8013,
    "unknown_labels": 0,
    "labels": {"Bald": {"accuracy": 0.99}},
}


def test_figures_have_names_and_stand_beside_their_baselines():
    landmarks = {"count": 279, "normalised_mean_error": 0.0699, "mean_shape_error": 0.1677}
    groups = {
        "attributes": ATTRIBUTES,
        "landmarks": {**landmarks, "points_source": "official points"},
        "pictures": {"measured": 1937, "left_out": 1},
    }
    assert list(headlines({"test": groups})) == [
        "test, attributes of 1,937 pictures: accuracy 0.906 (baseline 0.801); macro-F1 0.681",
        "test, landmarks (official points) of 279 pictures: normalised mean error 0.070 (baseline 0.168)",
        "test: 1 picture left out",
    ]


def test_a_group_that_nobody_labelled_is_passed_over_but_not_a_whole_data_set():
    nothing = {"count": 0, "unknown": 10, "count_seen": 0}
    assert len(list(headlines({"one": {"attributes": ATTRIBUTES, "season": nothing}}))) == 1
    (line,) = headlines({"other\n": {"season": nothing, "pictures": {"measured": 10, "left_out": 0}}})
    assert line.startswith("other\\n: nothing measured")


def test_classes_that_training_knew_are_told_apart_where_there_are_others():
    told = {"count": 10, "count_seen": 8, "accuracy": 0.5, "accuracy_seen": 0.625}
    (line,) = headlines({"odd years": {"articleType": told}})
    assert line.endswith("accuracy 0.500; accuracy, classes that occur in training 0.625")
    (line,) = headlines({"all": {"articleType": {**told, "accuracy_seen": 0.5}}})
    assert line.endswith("accuracy 0.500")


def test_the_shipped_figures_are_told_without_a_key():
    for part in ("attributes", "garments"):
        figures = json.loads((DEFAULT_INDEX / part / "figures.json").read_bytes())
        lines = list(headlines(figures["measured"]))
        assert len(lines) >= 5
        assert not any(f"{key} " in line for line in lines for key in FIGURE_NAMES if "_" in key)
