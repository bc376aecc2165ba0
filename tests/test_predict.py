"""``predict`` from end to end, with the shipped models: one model's answers as tables and as a contact sheet."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from hostile import make_hostile_directory
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from program import DEFAULT_INDEX, EXAMPLES, call, digests, manifest, rows, table

from stylematch.data.fashion_mnist import CLASSES
from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema, PointGroup
from stylematch.errors import UserError
from stylematch.pipelines import predict as pipeline
from stylematch.pipelines.predictions import label_columns, predictions_schema
from stylematch.tables.contract import LANDMARKS
from stylematch.vision.bundle import Bundle
from stylematch.vision.garments import cut_garment
from stylematch.vision.model_pictures import WholePictures, picture_reader, takes_faces
from stylematch.vision.runtime import CpuRuntime

FACES, GARMENTS = DEFAULT_INDEX / "attributes", DEFAULT_INDEX / "garments"
BOX = ("x", "y", "width", "height", "detection_score")
SHEET = "contact_sheet.jpg"
# Of Fashion Product Images' article types those that Fashion-MNIST has a category for.
COUNTERPARTS = {
    "Tshirts": "T-shirt/top",
    "Tops": "T-shirt/top",
    "Shirts": "Shirt",
    "Jeans": "Trouser",
    "Trousers": "Trouser",
    "Track Pants": "Trouser",
    "Dresses": "Dress",
    "Handbags": "Bag",
    "Casual Shoes": "Sneaker",
    "Sports Shoes": "Sneaker",
    "Sandals": "Sandal",
    "Flip Flops": "Sandal",
}


def predict(bundle, photos, out, *options):
    return call("predict", bundle, photos, "--out", out, "--device", "cpu", "--photo-timeout-s", 0, *options)


def predicted(bundle, photos, out, *options):
    result = predict(bundle, photos, out, *options)
    assert result.code == 0, result.err
    return out


@pytest.fixture(scope="module")
def faces_run(tmp_path_factory):
    return predicted(FACES, EXAMPLES, tmp_path_factory.mktemp("predict") / "out", "--batch-size", "4")


@pytest.fixture(scope="module")
def garments(tmp_path_factory):
    """Thirty shipped items as picture files, and the category of each."""
    folder = tmp_path_factory.mktemp("garments")
    items = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["category", "picture"]).slice(0, 30)
    categories = {}
    for number, item in enumerate(items.to_pylist()):
        name = f"{number:03d}.png"
        Image.fromarray(np.frombuffer(item["picture"], np.uint8).reshape(28, 28)).save(folder / name)
        categories[name] = item["category"]
    return folder, categories


@pytest.fixture(scope="module")
def garments_run(garments, tmp_path_factory):
    return predicted(GARMENTS, garments[0], tmp_path_factory.mktemp("predict") / "out")


# What the tables hold


def test_faces_are_predicted_as_they_are_scored(faces_run, example_run):
    said, scored = table(faces_run, "predictions"), table(example_run, "faces")
    names = ["path", "photo_id", "face", *BOX, *LANDMARKS, *Bundle.open(FACES).schema.group("attributes").labels]
    assert said.column_names[:8] == names[:8]
    assert sorted(said.column_names) == sorted(names)
    assert said.select(names).to_pydict() == scored.select(names).to_pydict()
    assert said.num_rows == 8


def test_every_file_found_is_a_row_as_in_a_scored_run(faces_run, example_run):
    status = {"scored": "predicted"}
    expected = [
        {**row, "status": status.get(row["status"], row["status"])} for row in table(example_run, "photos").to_pylist()
    ]
    for row in expected:
        del row["faces"]
    assert rows(faces_run, "photos") == expected
    counts = manifest(faces_run)["counts"]
    assert counts["found"] == counts["predicted"] + counts["no_face"] + counts["rejected"] == len(expected)
    assert counts["predictions"] == 8


def test_garments_are_what_the_model_says_of_their_own_pixels(garments, garments_run):
    folder, categories = garments
    pixels = np.stack([cut_garment(np.asarray(Image.open(folder / name).convert("RGB")), 28) for name in categories])
    heads = CpuRuntime(Bundle.open(GARMENTS)).run(pixels).heads["category"]
    said = rows(garments_run, "predictions")
    assert [row["path"] for row in said] == list(categories)
    for row, scores in zip(said, heads, strict=True):
        assert row["category"] == CLASSES[scores.argmax()]
        assert row["category_score"] == scores.max()
        assert [entry["score"] for entry in row["category_top5"]] == sorted(scores.tolist(), reverse=True)[:5]
        assert row["category_top5"][0] == {"label": row["category"], "score": row["category_score"]}
        assert row["face"] == 0
        assert all(row[name] is None for name in BOX)
    right = sum(row["category"] == categories[row["path"]] for row in said)
    assert right >= 25


def test_a_dark_garment_on_white_is_the_same_garment(garments, garments_run, tmp_path):
    dark = tmp_path / "dark"
    dark.mkdir()
    for name in garments[1]:
        pixels = 255 - np.asarray(Image.open(garments[0] / name))
        Image.fromarray(pixels).save(dark / name)
    said = table(predicted(GARMENTS, dark, tmp_path / "out"), "predictions")
    plain = table(garments_run, "predictions")
    assert said["category"] == plain["category"]
    # Rounding differs by a level of grey, which few pictures mind.
    differences = np.abs(said["category_score"].to_numpy() - plain["category_score"].to_numpy())
    assert np.quantile(differences, 0.8) < 0.01


def test_invert_swaps_dark_and_light_for_a_model_of_grey_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    options = {"faces": None, "min_face_px": 24, "max_megapixels": 1.0}
    plain = picture_reader(bundle_of(tmp_path, 1), invert=False, **options).read(png(tmp_path, pixels))
    inverted = picture_reader(bundle_of(tmp_path, 1), invert=True, **options).read(png(tmp_path, 255 - pixels))
    assert (plain.crops == pixels[None, ..., None]).all()
    assert (inverted.crops == plain.crops).all()


def test_tables_and_sheet_are_equal_whatever_the_batch_size(faces_run, tmp_path):
    reference = {name: value for name, value in digests(faces_run).items() if name != "manifest.json"}
    assert {"photos/part-00000.parquet", "predictions/part-00000.parquet", SHEET} <= set(reference)
    for size in (1, 32):
        out = predicted(FACES, EXAMPLES, tmp_path / str(size), "--batch-size", size)
        assert {name: value for name, value in digests(out).items() if name != "manifest.json"} == reference


def test_limit_takes_the_first_photos_and_the_shards_are_one_data_set(garments, tmp_path):
    out = predicted(GARMENTS, garments[0], tmp_path / "out", "--limit", "4", "--no-sheet")
    assert table(out, "predictions")["path"].to_pylist() == list(garments[1])[:4]
    assert not (out / SHEET).exists()


@pytest.mark.slow
def test_several_partitions_and_their_sheet(garments, tmp_path, monkeypatch):
    drawn = []
    few = tmp_path / "few"
    few.mkdir()
    for number in range(64):  # of whose two partitions neither holds as many as a sheet
        shutil.copy(garments[0] / f"{number % 30:03d}.png", few / f"{number:04d}.png")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_contact_sheet", lambda pictures, *_, **__: drawn.extend(pictures))
        predicted(GARMENTS, few, tmp_path / "few-out")
    assert [picture.name for picture in drawn] == [f"{number:04d}.png" for number in range(48)]
    many = tmp_path / "many"
    many.mkdir()
    for number in range(130):
        shutil.copy(garments[0] / f"{number % 30:03d}.png", many / f"{number:04d}.png")
    out = predicted(GARMENTS, many, tmp_path / "out")
    assert len(list((out / "predictions").glob("part-*.parquet"))) > 1
    assert table(out, "predictions")["path"].to_pylist() == sorted(path.name for path in many.iterdir())
    assert (out / SHEET).is_file()


def test_a_hostile_folder_loses_no_file(tmp_path):
    hostile = make_hostile_directory(tmp_path / "photos")
    out = predicted(FACES, hostile.root, tmp_path / "out")
    assert {row["path"]: row["reason"] for row in rows(out, "photos")} == hostile.reasons
    assert manifest(out)["counts"]["ignored"] == dict(hostile.ignored)
    with_faces = {path for path, reason in hostile.reasons.items() if reason == "ok"}
    assert {row["path"] for row in rows(out, "predictions")} == with_faces


def test_an_empty_folder_is_done_with_no_rows(tmp_path):
    (tmp_path / "photos").mkdir()
    for told in (predict(GARMENTS, tmp_path / "photos", tmp_path / "out") for _ in range(2)):
        assert (told.code, "to see them" in told.out) == (0, False)  # of a sheet without pictures
    out = tmp_path / "out"
    assert rows(out, "photos") == rows(out, "predictions") == []
    assert (out / SHEET).is_file()


# Running it again


def test_a_finished_run_is_left_alone_unless_the_sheet_is_missing(garments, tmp_path):
    out = predicted(GARMENTS, garments[0], tmp_path / "out", "--no-sheet")
    before = (out / "manifest.json").read_bytes()
    assert "Nothing to do" in predict(GARMENTS, garments[0], out, "--no-sheet", "--batch-size", "3").out
    assert (out / "manifest.json").read_bytes() == before
    assert "predictions in" in predict(GARMENTS, garments[0], out).out
    assert (out / SHEET).is_file()
    assert "predictions in" in predict(GARMENTS, garments[0], out, "--overwrite").out


def test_an_interrupted_run_is_gone_on_with(garments, garments_run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_contact_sheet", interrupted)
        assert predict(GARMENTS, garments[0], tmp_path / "out").code == 130
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(pipeline, "predict_partition", interrupted)
    out = predicted(GARMENTS, garments[0], tmp_path / "out")
    assert digests(out / "predictions") == digests(garments_run / "predictions")
    assert (out / SHEET).read_bytes() == (garments_run / SHEET).read_bytes()


def test_a_photo_that_is_gone_when_the_sheet_is_drawn_is_a_note(garments, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    shutil.copytree(garments[0], photos)
    count = pipeline._count

    def count_and_remove(*arguments):
        (photos / "000.png").unlink()
        return count(*arguments)

    monkeypatch.setattr(pipeline, "_count", count_and_remove)
    out = predicted(GARMENTS, photos, tmp_path / "out")
    assert len(rows(out, "predictions")) == 30
    assert (out / SHEET).is_file()


# Mistakes


def test_a_run_of_another_command_is_not_replaced(example_run, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(example_run, out)
    before = digests(out)
    result = predict(GARMENTS, EXAMPLES, out)
    assert result.code == 2
    assert "that predict did not write" in result.sentence
    assert digests(out) == before


def test_mistakes_are_one_sentence_and_write_nothing(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("mine")
    out = tmp_path / "out"
    for arguments, part in (
        ((tmp_path, EXAMPLES, out), "is not a model bundle"),
        ((GARMENTS, tmp_path / "nowhere", out), "there is no directory of photos"),
        ((GARMENTS, "", out), "PHOTOS is empty"),
        ((GARMENTS, EXAMPLES, foreign), "is not empty"),
        ((GARMENTS, EXAMPLES, EXAMPLES), "name another folder"),
        ((GARMENTS, EXAMPLES, out, "--faces", "aligned"), "--faces has no meaning"),
        ((FACES, EXAMPLES, out, "--invert"), "--invert is for models of grey pictures"),
        ((FACES, EXAMPLES, out, "--max-megapixels", "nan"), "--max-megapixels"),
    ):
        result = predict(*arguments)
        assert result.code == 2, result.err
        assert part in result.sentence
    assert not out.exists()
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]


# Its parts


def test_a_label_that_would_be_two_columns_is_refused():
    for groups in (
        (BinaryGroup("labels", ("Smiling", "width")),),
        (BinaryGroup("a", ("worn",)), BinaryGroup("b", ("worn",))),
        (CategoricalGroup("kind", ("a", "b")), BinaryGroup("more", ("kind_score",))),
    ):
        with pytest.raises(UserError, match="two columns"):
            predictions_schema(LabelSchema(groups))


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5]), min_size=2, max_size=9))
def test_the_best_classes_come_first_and_of_equals_the_earlier(scores):
    names = tuple(f"c{number}" for number in range(len(scores)))
    schema = LabelSchema((CategoricalGroup("kind", names),))
    columns = label_columns(schema, {"kind": np.array([scores], np.float32)}, np.zeros((1, 4)))
    ranked = sorted(zip(scores, range(len(scores)), strict=True), key=lambda pair: (-pair[0], pair[1]))[:5]
    assert [entry["label"] for entry in columns["kind_top5"][0]] == [names[number] for _, number in ranked]
    assert columns["kind"] == [names[ranked[0][1]]]


def test_points_are_pixels_of_the_photo():
    names, area = ("a_x", "a_y", "b_x", "b_y"), np.array([[10.0, -20.0, 100.0, 400.0]])
    expected = {"a_x": 10.0, "a_y": -20.0, "b_x": 110.0, "b_y": 180.0}
    # Corners of a box lie between pixels; a landmark names its pixel, as CelebA's do.
    for group, centre in (("box", 0.0), ("landmarks", 0.5)):
        heads = {group: np.array([[0.0, 0.0, 1.0, 0.5]], np.float32)}
        columns = label_columns(LabelSchema((PointGroup(group, names),)), heads, area)
        said = {name: float(values[0]) for name, values in columns.items()}
        assert said == {name: value - centre for name, value in expected.items()}


def bundle_of(tmp_path, channels, **more_input):
    description = {"name": "whole", "input": {"side_px": 32, "channels": channels, **more_input}}
    return Bundle(tmp_path, json.loads(json.dumps(description)), "")


def png(tmp_path, pixels):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def test_whole_colour_pictures_are_squashed_or_padded_and_say_what_they_show(tmp_path):
    data = png(tmp_path, np.full((40, 120, 3), (200, 100, 50), np.uint8))
    squashed = WholePictures(bundle_of(tmp_path, 3), invert=False, max_megapixels=1).read(data)
    assert squashed.crops.shape == (1, 32, 32, 3)
    assert squashed.areas_px.tolist() == [[0, 0, 120, 40]]
    assert squashed.boxes is None
    padded = WholePictures(bundle_of(tmp_path, 3, resize="pad"), invert=False, max_megapixels=1).read(data)
    assert padded.areas_px.tolist() == [[0, -40, 120, 120]]
    with pytest.raises(UserError, match="resizes its pictures by 'crop'"):
        WholePictures(bundle_of(tmp_path, 3, resize="crop"), invert=False, max_megapixels=1)


def test_a_model_says_itself_whether_it_takes_faces(tmp_path):
    assert takes_faces(Bundle.open(FACES))
    assert not takes_faces(Bundle.open(GARMENTS))
    options = {"min_face_px": 24, "max_megapixels": 1.0}
    whole = picture_reader(bundle_of(tmp_path, 3), faces=None, invert=False, **options)
    assert isinstance(whole, WholePictures)


@pytest.mark.shared_data
def test_product_pictures_are_told_apart(shared_data, tmp_path):
    pictures = shared_data / "fashion_product" / "images"
    with (pictures.parent / "styles.csv").open(newline="", encoding="utf-8") as stream:
        kinds = {row["id"]: row["articleType"] for row in csv.DictReader(stream)}
    said = rows(predicted(GARMENTS, pictures, tmp_path / "out", "--no-sheet", "--limit", "120"), "predictions")
    assert len(said) == 120
    pairs = [(COUNTERPARTS.get(kinds[row["path"].removesuffix(".jpg")]), row["category"]) for row in said]
    assert np.mean([wanted == category for wanted, category in pairs if wanted]) > 0.8
