"""``evaluate`` with the shipped attribute model: what it says of the data, and the plots that it leaves."""

import json
import shutil
import sys

import numpy as np
import pytest
from bfloat16 import needs_bfloat16
from PIL import Image
from program import DEFAULT_INDEX, EXAMPLES, call, digests
from tiny import write_celeba, write_fashion_product

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")

from stylematch.cli.program import run
from stylematch.data.celeba import ATTRIBUTES, read_celeba
from stylematch.data.learned import digest_names
from stylematch.evaluate.card import card_text
from stylematch.pipelines.learning.evaluation_files import write_evaluation
from stylematch.pipelines.learning.labelled import labelled_garments, learned_rows
from stylematch.pipelines.learning.labelled_data import find_labelled
from stylematch.vision.bundle import Bundle

ATTRIBUTES_BUNDLE = DEFAULT_INDEX / "attributes"
pytestmark = pytest.mark.skipif(not DEFAULT_INDEX.is_dir(), reason="indexes/default is not built: make default-index")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data = write_celeba(folder / "mine")
    names = [path.name for path in sorted((data / "img_align_celeba").iterdir())]
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    rows = [f"{name} 69 111 108 111 88 135 72 152 105 152" for name in names]
    (data / "list_landmarks_align_celeba.txt").write_text("\n".join([str(len(rows)), columns, *rows]) + "\n")
    (data / "landmarks_source.txt").write_text("the mean face\n")
    out = folder / "out"
    assert run(["evaluate", str(DEFAULT_INDEX / "attributes"), str(data), "--split", "all", "--out", str(out)]) == 0
    return out


def test_the_card_says_whose_the_points_are(evaluated):
    assert (
        json.loads((evaluated / "figures.json").read_text())["measured"]["mine"]["landmarks"]["points_source"]
        == "the mean face"
    )
    assert "**landmarks, against the mean face**" in (evaluated / "MODEL_CARD.md").read_text()


def test_the_card_does_not_say_that_nothing_was_learned_from_pictures_that_somebody_names(evaluated):
    measured = "Measured on the exported bundle in ONNX Runtime, on "
    assert f"{measured}the pictures that each title names." in (evaluated / "MODEL_CARD.md").read_text()
    assert f"{measured}pictures that nothing was learned from." in card_text(
        Bundle.open(DEFAULT_INDEX / "attributes"), json.loads((evaluated / "figures.json").read_text())
    )


@needs_bfloat16
def test_products_that_nobody_wears_are_measured_as_shops_show_them(tmp_path):
    bundle = Bundle.open(DEFAULT_INDEX / "garments")
    data = find_labelled(str(write_fashion_product(tmp_path / "shop", 12)), bundle)
    measured = dict(labelled_garments(bundle, data, tmp_path / "cache", "test", None))
    assert {title: len(examples) for title, examples in measured.items()} == {
        "shop, not learned from, as shops show": 12
    }


def test_earlier_figures_that_are_damaged_are_left_out(tmp_path):
    shutil.copytree(ATTRIBUTES_BUNDLE, tmp_path / "bundle")
    (tmp_path / "bundle" / "figures.json").write_text("[3]")
    write_evaluation(tmp_path / "out", Bundle.open(tmp_path / "bundle"), [], "cpu")
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["measured"] == {}


@needs_bfloat16
def test_figures_and_card_name_the_device(evaluated, tmp_path):
    assert json.loads((evaluated / "figures.json").read_text())["device"] == "cpu"
    data, out = evaluated.parent / "mine", tmp_path / "out"
    bundle = DEFAULT_INDEX / "attributes"
    done = call("evaluate", bundle, data, "--split", "all", "--out", out, "--device", "cpu-bf16")
    assert done.code == 0, done.err
    less, exact = (json.loads((folder / "figures.json").read_text()) for folder in (out, evaluated))
    assert less["device"] == "cpu-bf16"
    assert less["measured"]["mine"]["landmarks"] != exact["measured"]["mine"]["landmarks"]
    assert "Measured on the exported bundle in OpenVINO in bfloat16, on " in (out / "MODEL_CARD.md").read_text()


def test_a_binary_group_has_bars_reliability_and_confusion(evaluated):
    plots = sorted((evaluated / "plots").iterdir())
    assert [path.name for path in plots] == [
        "mine-attributes-confusion.png",
        "mine-attributes-reliability.png",
        "mine-attributes.png",
    ]
    for path in plots:
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_only_an_earlier_evaluation_gives_way(evaluated, tmp_path):
    data, out = evaluated.parent / "mine", tmp_path / "out"
    bundle = shutil.copytree(DEFAULT_INDEX / "attributes", tmp_path / "bundle")
    before = digests(bundle)
    refused = call("evaluate", bundle, data, "--split", "all", "--out", bundle)
    assert (refused.code, "holds bundle.json beside an evaluation" in refused.sentence) == (2, True)
    assert digests(bundle) == before
    shutil.copytree(evaluated, out)
    (out / "plots" / "older-attributes.png").touch()
    again = call("evaluate", bundle, data, "--split", "all", "--out", out)
    assert again.code == 0, again.err
    assert digests(out) == digests(evaluated)


def test_without_matplotlib_there_are_figures_and_no_plots(evaluated, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data, out = evaluated.parent / "mine", tmp_path / "out"
    done = call("evaluate", DEFAULT_INDEX / "attributes", data, "--split", "all", "--out", out)
    assert done.code == 0, done.err
    assert "plots left out: Drawing plots needs the 'train' extra" in done.out
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "figures.json"]


def whole_photos(folder, parts):
    """Two of the example photos under CelebA's label files."""
    (folder / "img_celeba").mkdir(parents=True)
    for name, example in (("a.jpg", "astronaut.jpg"), ("b.jpg", "grace_hopper.jpg")):
        shutil.copyfile(EXAMPLES / example, folder / "img_celeba" / name)
    values = " ".join("1" if name == "Young" else "-1" for name in ATTRIBUTES)
    rows = [f"{name} {values}" for name in parts]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(ATTRIBUTES), *rows]) + "\n")
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in parts.items()))
    return folder


@pytest.mark.parametrize(
    ("name", "parts", "split", "title", "count"),
    [
        ("mine", {"a.jpg": 0, "b.jpg": 2}, "test", "mine test (local split)", 1),
        ("mine", {"a.jpg": 0, "b.jpg": 2}, "train", "mine train (local split)", 1),
        ("mine", {"a.jpg": 0, "b.jpg": 2}, "all", "mine", 2),
        ("photos", {"a.jpg": 0, "b.jpg": 0}, "test", "photos", 2),
    ],
)
def test_whole_photos_are_of_the_split_and_called_by_their_folder(name, parts, split, title, count, tmp_path):
    data, out = whole_photos(tmp_path / name, parts), tmp_path / "out"
    done = call("evaluate", ATTRIBUTES_BUNDLE, data, "--faces", "find", "--split", split, "--out", out)
    assert done.code == 0, done.err
    measured = json.loads((out / "figures.json").read_text())["measured"]
    assert list(measured) == [f"{title}, largest face found"]
    pictures = measured[f"{title}, largest face found"]["pictures"]
    assert pictures["measured"] == count
    assert "perhaps learned from" not in pictures | {done.out: 0}


def knowing(bundle, names):
    """The shipped attribute model as if it had learned from pictures of these names; of None, as if it did not say."""
    shutil.copytree(ATTRIBUTES_BUNDLE, bundle)
    said = json.loads((bundle / "bundle.json").read_text())
    del said["learned_names"]
    (bundle / "bundle.json").write_text(
        json.dumps(said | ({} if names is None else {"learned_names": digest_names(names)}))
    )
    return bundle


@pytest.mark.parametrize(("split", "counts"), [("test", (1, None)), ("train", (1, 1)), ("all", (2, 1))])
def test_what_was_learned_from_is_counted_in_any_folder(split, counts, tmp_path):
    data, out = whole_photos(tmp_path / "mine", {"a.jpg": 0, "b.jpg": 2}), tmp_path / "out"
    bundle = knowing(tmp_path / "bundle", ["a.jpg", "another.jpg"])
    done = call("evaluate", bundle, data, "--faces", "find", "--split", split, "--out", out)
    assert done.code == 0, done.err
    (figures,) = json.loads((out / "figures.json").read_text())["measured"].values()
    assert (figures["pictures"]["measured"], figures["pictures"].get("perhaps learned from")) == counts
    assert (f": {counts[1]} of its pictures perhaps learned from" in done.out) == (counts[1] is not None)
    assert ("perhaps learned from" in (out / "MODEL_CARD.md").read_text()) == (counts[1] is not None)


def test_celeba_by_its_name_is_counted_alike(tmp_path, monkeypatch):
    folder = write_celeba(tmp_path / "celeba")
    monkeypatch.setenv("STYLEMATCH_DATA", str(folder.parent))
    parts = (folder / "list_eval_partition.txt").read_text().splitlines()
    tested = [line.split()[0] for line in parts if line.endswith(" 2")]
    bundle = knowing(tmp_path / "bundle", tested[:1])
    done = call("evaluate", bundle, "celeba", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    (figures,) = json.loads((tmp_path / "out" / "figures.json").read_text())["measured"].values()
    assert figures["pictures"] == {"measured": len(tested), "left_out": 0, "perhaps learned from": 1}


def test_a_model_of_faces_that_does_not_say_what_it_learned_from_is_refused(tmp_path):
    data = whole_photos(tmp_path / "mine", {"a.jpg": 0, "b.jpg": 2})
    bundle = knowing(tmp_path / "bundle", None)
    done = call("evaluate", bundle, data, "--faces", "find", "--out", tmp_path / "out")
    assert (done.code, "does not say which pictures it learned from: train it again" in done.sentence) == (2, True)


@pytest.mark.shared_data
def test_the_model_that_ships_says_what_it_learned_from(shared_data):
    bundle, folder = Bundle.open(ATTRIBUTES_BUNDLE), read_celeba(shared_data / "celeba")
    there = np.array([(folder.pictures / name).is_file() for name in folder.image_ids])
    np.testing.assert_array_equal(learned_rows(bundle, folder.image_ids), (folder.split < 2) & there)


def test_a_split_that_whole_photos_do_not_have_is_said(tmp_path):
    data = whole_photos(tmp_path / "mine", {"a.jpg": 0, "b.jpg": 0})
    done = call("evaluate", ATTRIBUTES_BUNDLE, data, "--faces", "find", "--split", "val", "--out", tmp_path / "out")
    assert (done.code, "--split val: " in done.sentence) == (2, True)


def test_every_plot_names_its_group(evaluated, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    plain = Axes.set_title
    monkeypatch.setattr(
        Axes, "set_title", lambda self, title, **rest: titles.append(title) or plain(self, title, **rest)
    )
    data = evaluated.parent / "mine"
    assert call("evaluate", ATTRIBUTES_BUNDLE, data, "--split", "all", "--out", tmp_path / "out").code == 0
    assert titles == ["mine: attributes"] * 3
