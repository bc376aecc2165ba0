import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import EXAMPLES
from PIL import Image
from program import DEFAULT_INDEX, call, digests
from tiny import TEST_ITEMS, TRAIN_ITEMS, write_fashion_mnist, write_fashion_product

from stylematch.data.article_types import may_be_worn_on_torso
from stylematch.data.fashion_mnist import read_fashion_mnist
from stylematch.data.fashion_product import read_fashion_product
from stylematch.data.learned import digest_names
from stylematch.errors import StylematchError, UserError
from stylematch.pipelines.learning.labelled import LEARNED_NAMES
from stylematch.pipelines.recs import worn as recs_worn
from stylematch.pipelines.recs.crops import WornCrops, item_crops, worn_crops
from stylematch.pipelines.recs.encoders import IMAGENET, BundleEncoder, ImagenetFeatures, RawPixels
from stylematch.pipelines.recs.items import augmented_views
from stylematch.pipelines.recs.lists import Run, measure_lists
from stylematch.pipelines.recs.worn import measure_worn
from stylematch.vision.bundle import Bundle
from stylematch.vision.face_reader import FaceReader
from stylematch.vision.garments import cut_torso
from stylematch.vision.item_picture import ItemPictureReader

GARMENTS = DEFAULT_INDEX / "garments"


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Path:
    return write_fashion_mnist(tmp_path_factory.mktemp("items") / "fashion-mnist")


@pytest.fixture
def no_torch(monkeypatch):
    """As if torch were not installed: no minutes of ImageNet features, no fetching of weights."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_torch")
def test_one_report_of_all_parts_that_have_data(items, example_run, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    products = write_fashion_product(tmp_path / "products", 12)
    outs = tmp_path / "one", tmp_path / "two"
    for out in outs:
        result = call(
            "evaluate-recs", "--out", out, "--fashion-mnist", items, "--fashion-product", products, "--run", example_run
        )
        assert result.code == 0, result.err
    report = json.loads((outs[0] / "report.json").read_text())
    assert list(report["parts"]) == ["items", "instance", "lists"]
    assert set(report["left_out"]) == {"worn", "worn_held_out"}  # nobody wears these products
    assert report["encoder"]["sha256"] == Bundle.open(GARMENTS).sha256
    of_class, again, lists = report["parts"].values()
    assert (of_class["queries"], of_class["gallery"]) == (TEST_ITEMS, TRAIN_ITEMS)
    assert again["gallery"] == TEST_ITEMS + TRAIN_ITEMS
    for part in (of_class, again):
        assert "not installed" in part["rows"][IMAGENET]["not_measured"]
    encoder, raw = of_class["rows"]["encoder"], of_class["rows"]["raw pixels"]
    assert encoder["map_at_r"]["mean"] > 0.8 > raw["map_at_r"]["mean"] + 0.2
    low, high = encoder["map_at_r"]["interval"]
    assert low < encoder["map_at_r"]["mean"] < high
    assert encoder["r_at_1"]["mean"] == encoder["r_at_1"]["failed_as_zero"]["mean"] == nearest_of_class(items)
    assert list(lists["rows"]) == ["recommended", "random", "most popular"]
    assert lists["rows"]["recommended"]["novelty_bits"]["mean"] > lists["rows"]["most popular"]["novelty_bits"]["mean"]
    text = (outs[0] / "report.md").read_text()
    for said in ("consistency", "no interaction log", "| encoder | mAP@R | 0.", "## Left out", "plots/lists.png"):
        assert said in text
    assert sorted(path.name for path in (outs[0] / "plots").iterdir()) == ["instance.png", "items.png", "lists.png"]
    assert digests(outs[0]) == digests(outs[1])


def nearest_of_class(folder):
    """R@1 once more, one query after the other."""
    train, test = (read_fashion_mnist(folder, split) for split in ("train", "test"))
    encoder = BundleEncoder(Bundle.open(GARMENTS))
    gallery, queries = (encoder.embed(part.pictures[..., None], "pictures") for part in (train, test))
    hits = [train.labels[(gallery @ query).argmax()] for query in queries] == test.labels
    return round(float(hits.mean()), 6)


@pytest.mark.usefixtures("no_torch")
def test_a_smaller_report_replaces_a_larger_one_and_touches_nothing_else(items, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'stylematch[train]'")
    monkeypatch.setenv("STYLEMATCH_DATA", str(tmp_path / "nowhere"))
    (tmp_path / "out" / "plots").mkdir(parents=True)
    for name in ("worn.png", "mine.png"):
        (tmp_path / "out" / "plots" / name).touch()
    result = call("evaluate-recs", "--out", tmp_path / "out", "--fashion-mnist", items, "--limit", 20)
    assert result.code == 0, result.err
    assert "worn left out: " in result.out
    assert "lists left out: no run was named (--run)" in result.out
    plots = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    assert plots == {"instance.png", "items.png", "mine.png"}
    assert "**A quick try**" in (tmp_path / "out" / "report.md").read_text()
    again = call("evaluate-recs", "--out", tmp_path / "out", "--fashion-mnist", items, "--limit", 20)
    assert again.code == 0, again.err


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_somebody_elses_report_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("[]")
    refused = call("evaluate-recs", "--out", tmp_path)
    assert (refused.code, f"holds {name}, which evaluate-recs did not write" in refused.sentence) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    refused = call("evaluate-recs", "--out", tmp_path / name)
    assert (refused.code, "is a file" in refused.sentence) == (2, True)


@pytest.mark.usefixtures("no_torch")
def test_without_matplotlib_the_report_has_no_plots(items, tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEMATCH_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = call("evaluate-recs", "--out", tmp_path / "out", "--fashion-mnist", items, "--limit", 10)
    assert result.code == 0, result.err
    assert "plots left out: Drawing plots needs the 'train' extra" in result.out
    assert "![" not in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--garments", "nowhere"], "is not a model bundle"),
        (["--garments", DEFAULT_INDEX / "attributes"], "takes pictures of"),
        (["--fashion-mnist", "nowhere"], "does not hold Fashion-MNIST's four IDX files"),
        (["--fashion-product", "nowhere"], "--fashion-product nowhere has no styles.csv"),
        (["--run", "nowhere"], "--run nowhere is no finished run"),
    ],
)
def test_what_was_named_wrongly_is_a_sentence_before_any_work(tmp_path, options, said):
    result = call("evaluate-recs", "--out", tmp_path / "out", *options)
    assert result.code == 2
    assert said in result.sentence
    assert not (tmp_path / "out").exists()


def test_a_run_with_another_catalogue_is_refused(example_run, tmp_path):
    run = shutil.copytree(example_run, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["sha256"]["items"] = "0" * 64
    (run / "manifest.json").write_text(json.dumps(manifest))
    result = call("evaluate-recs", "--out", tmp_path / "out", "--run", run)
    assert result.code == 2
    assert "was not made with the catalogue" in result.sentence


def write_tables(folder, items):
    """Write a run's tables as far as they are read: three people in two photos, one of them with one item only."""
    tables = {
        "photos": {"path": ["a", "b", "c", "d"], "status": ["scored", "no_face", "scored", "rejected"]},
        "faces": {"path": ["a", "a", "c"], "face": [0, 1, 0]},
        "recommendations": {"path": list("aaac"), "face": [0, 0, 1, 0], "rank": [2, 1, 1, 1], "item_id": items},
    }
    for name, columns in tables.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / name / "part-00000.parquet")
    return Run(folder, DEFAULT_INDEX / "items", 2, "a-run")


def test_lists_are_read_from_the_tables(tmp_path):
    ids = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["id"])["id"].to_pylist()
    part = measure_lists(write_tables(tmp_path / "run", [ids[0], ids[7], ids[7], ids[7]]))
    assert (part["people"], part["photos"], part["catalogue"]) == (3, 4, len(ids))
    assert part["photos_without_any"]["mean"] == 0.5
    assert part["photos_without_any_by_status"] == {"no_face": 1, "rejected": 1}
    listed, random, popular = part["rows"].values()
    assert listed["catalogue_coverage"] == round(2 / len(ids), 6)
    assert listed["short_lists"]["mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert listed["distributional_coverage_bits"] == pytest.approx(0.811278, abs=1e-6)  # three of four are one item
    assert random["short_lists"]["mean"] == 0
    assert popular["novelty_bits"]["mean"] == 0


def test_items_of_another_catalogue_and_tables_of_another_run_are_told(tmp_path):
    with pytest.raises(UserError, match=r"1 of the items .* such as nobody's"):
        measure_lists(write_tables(tmp_path / "run", ["nobody's"] * 4))
    ids = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["id"])["id"].to_pylist()
    run = write_tables(tmp_path / "other", ids[:4])
    pq.write_table(pa.table({"path": ["a"], "face": [0]}), run.directory / "faces" / "part-00000.parquet")
    with pytest.raises(StylematchError, match="do not belong together"):
        measure_lists(run)


def test_views_are_near_their_pictures_and_follow_from_the_seed(items):
    pictures = read_fashion_mnist(items, "test").pictures
    views = augmented_views(pictures, 0)
    np.testing.assert_array_equal(views, augmented_views(pictures, 0))
    assert (views != augmented_views(pictures, 1)).any()
    assert (views != pictures).any(axis=(1, 2)).all()
    flat = [part.reshape(len(part), -1).astype(float) for part in (pictures, views)]
    alike = [np.corrcoef(picture, view)[0, 1] for picture, view in zip(*flat, strict=True)]
    assert np.mean(alike) > 0.7


def test_grey_and_colour_are_one_to_every_encoder(items):
    grey = read_fashion_mnist(items, "test").pictures[:6, ..., None]
    colour = np.repeat(grey, 3, axis=3)
    for encoder in (BundleEncoder(Bundle.open(GARMENTS)), RawPixels()):
        one, three = encoder.embed(grey, "grey"), encoder.embed(colour, "colour")
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(one @ one.T, three @ three.T, atol=1e-6)
    assert np.isnan(RawPixels().embed(np.zeros_like(grey), "black")).all()


def taught_by(dataset, **said):
    """Return the shipped garment encoder as if it had learned from other data."""
    bundle = Bundle.open(GARMENTS)
    description = {name: value for name, value in bundle.description.items() if name != LEARNED_NAMES}
    return Bundle(bundle.directory, {**description, "data": {"dataset": dataset}, **said}, bundle.sha256)


class TestWorn:
    """Every query looks just like its own item, and next to that like an item of another type."""

    @pytest.fixture
    def measured(self, tmp_path, monkeypatch):
        looks = np.random.default_rng(0).integers(0, 256, (48, 28, 28, 3), np.uint8)

        def pictures(products, rows):
            fields = np.array([looks[int(products.ids[row]) // 2] for row in rows])
            fields[:, 0, 0] = np.array([int(products.ids[row]) % 2 * 255 for row in rows])[:, None]
            return fields

        monkeypatch.setattr(
            recs_worn,
            "worn_crops",
            lambda products, rows, _: WornCrops(pictures(products, rows[1:]), rows[1:], rows[:1]),
        )
        monkeypatch.setattr(recs_worn, "item_crops", lambda products, rows, _: (pictures(products, rows), rows))
        root, bundle = write_fashion_product(tmp_path / "products", 96), taught_by("fashion-mnist")
        return measure_worn([RawPixels()], {"other": "why"}, bundle, root, tmp_path / "cache", None)

    def test_the_own_item_is_never_found(self, measured):
        whole, held_out = measured["worn"], measured["worn_held_out"]
        assert (whole["gallery"], held_out["gallery"]) == (96, whole["pictures_held_out"])
        assert whole["rows"]["raw pixels"]["r_at_1"]["mean"] == 0
        assert whole["rows"]["other"] == {"not_measured": "why"}
        assert whole["relevant_share"] == pytest.approx(15 / 96, abs=1e-6)  # sixteen of a type, less the own

    def test_a_picture_without_a_crop_counts_as_zero_in_the_second_column(self, measured):
        part = measured["worn"]
        figures = part["rows"]["raw pixels"]["ndcg_at_10"]
        answered = part["queries"] - 1
        assert figures["mean"] > 0
        assert figures["failed_as_zero"]["mean"] == pytest.approx(
            figures["mean"] * answered / part["queries"], abs=1e-5
        )

    def test_it_says_whether_the_catalogue_was_learned_from(self, measured, tmp_path):
        assert measured["worn"]["learned_from_catalogue"] is False
        root = tmp_path / "products"
        some = digest_names([f"{number}.jpg" for number in range(90)])
        parts = self.of(taught_by("garments", learned_names=some), root, tmp_path)
        assert parts["worn"]["learned_from_catalogue"] is True
        held_out = sum(int(product) >= 90 for product in read_fashion_product(root).ids)
        assert parts["worn"]["pictures_held_out"] == parts["worn_held_out"]["gallery"] == held_out > 0
        parts = self.of(taught_by("garments", learned_names=digest_names(["elsewhere.jpg"])), root, tmp_path)
        assert parts["worn"]["learned_from_catalogue"] is False
        assert parts["worn"]["pictures_held_out"] == parts["worn"]["gallery"] == 96
        with pytest.raises(UserError, match="does not say which pictures"):
            self.of(taught_by("garments"), root, tmp_path)

    def test_copies_are_neither_asked_about_nor_found(self, measured, tmp_path):
        root = tmp_path / "products"
        names = read_fashion_product(root).names
        for there, copy in ((names[0], names[95]), (names[94], names[93])):
            shutil.copy(root / "images" / there, root / "images" / copy)
        parts = self.of(taught_by("garments", learned_names=digest_names(names[:90])), root, tmp_path)
        # Of the six that are new by name one was learned from, and two are one.
        assert (parts["worn"]["pictures_held_out"], parts["worn"]["gallery"]) == (4, 94)

    @staticmethod
    def of(bundle, root, tmp_path):
        return measure_worn([RawPixels()], {}, bundle, root, tmp_path / "cache", None)


def test_crops_are_those_of_score_and_of_catalog_build_whatever_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("stylematch.vision.cut_cache._WORTH_A_PROCESS", 3)
    root = write_fashion_product(tmp_path / "products", 8)
    products = read_fashion_product(root)
    whole = (EXAMPLES / "astronaut.jpg").read_bytes()
    with Image.open(EXAMPLES / "astronaut.jpg") as photo:
        photo.crop((170, 30, 290, 180)).save(products.pictures / products.names[1])  # a face and nothing below it
    (products.pictures / products.names[2]).write_bytes(whole)
    (products.pictures / products.names[5]).write_bytes(whole[:200])
    rows = np.arange(len(products))
    one, two = (worn_crops(products, rows, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert (one.rows.tolist(), one.failed.tolist()) == ([2], [1])
    read = FaceReader("find", 28, min_face_px=24, max_megapixels=200.0).read(whole)
    np.testing.assert_array_equal(one.pictures[0], cut_torso(read.photo, read.boxes[0], 28))
    np.testing.assert_array_equal(one.pictures, two.pictures)
    items, kept = item_crops(products, rows, tmp_path / "1", workers=1)
    assert kept.tolist() == [0, 1, 2, 3, 4, 6, 7]
    reader, kinds = ItemPictureReader(28, 3, torsos=True), products.classes["articleType"]
    for crop, row in zip(items, kept, strict=True):
        may_be_worn = may_be_worn_on_torso(kinds[products.labels["articleType"][row]])
        data = (products.pictures / products.names[row]).read_bytes()
        np.testing.assert_array_equal(crop, reader.read(data, may_be_worn=may_be_worn).crop)
    parallel, same = item_crops(products, rows, tmp_path / "2", workers=2)
    np.testing.assert_array_equal(items, parallel)
    np.testing.assert_array_equal(kept, same)
    monkeypatch.setattr("stylematch.pipelines.recs.crops.decode_photo", None)  # a second time nothing is read
    again = worn_crops(products, rows, tmp_path / "1", workers=1)
    np.testing.assert_array_equal(again.pictures, one.pictures)


@pytest.mark.slow
@pytest.mark.shared_data
def test_worn_clothes_of_real_products(shared_data, tmp_path):
    encoder = BundleEncoder(Bundle.open(GARMENTS))
    parts = measure_worn([encoder], {}, encoder.bundle, shared_data / "fashion_product", tmp_path / "cache", 40)
    part = parts["worn"]
    assert part["pictures_held_out"] == 40
    assert 0 < part["queries"] <= part["showing_a_person"] < 40
    assert (part["gallery"], parts["worn_held_out"]["gallery"]) == (80, 40)
    assert 0 < part["rows"]["encoder"]["ndcg_at_10"]["mean"] <= 1


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.shared_data
@pytest.mark.usefixtures("one_thread")
def test_imagenet_features_tell_kinds_apart_and_are_kept(shared_data, items, tmp_path, monkeypatch):
    pytest.importorskip("torchvision", reason="torch is not installed: pip install 'stylematch[train]'")
    torch = pytest.importorskip("torch")
    home = shared_data.parent / "torch_home"
    if not home.is_dir():
        pytest.skip("no ImageNet weights beside the real data")
    monkeypatch.setenv("TORCH_HOME", str(home))
    test = read_fashion_mnist(items, "test")
    features = ImagenetFeatures(tmp_path / "cache")
    embedded = features.embed(test.pictures[:40, ..., None], "items")
    assert embedded.shape == (40, 1280)
    alike = embedded @ embedded.T - 2 * np.eye(40)
    assert (test.labels[:40][alike.argmax(axis=1)] == test.labels[:40]).mean() > 0.5
    with torch.inference_mode():
        slow = features._frozen.torch_form(torch.from_numpy(np.repeat(test.pictures[:40, ..., None], 3, axis=3)))
    slow = torch.nn.functional.normalize(slow, dim=1).numpy()
    np.testing.assert_allclose((slow * embedded).sum(axis=1), 1, atol=1e-5)
    monkeypatch.setattr(features, "_features", None)  # a second time nothing is computed
    np.testing.assert_array_equal(features.embed(test.pictures[:40, ..., None], "items"), embedded)
