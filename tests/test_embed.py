"""``embed``, ``index build`` and ``score --index``: from pictures to an index that scores."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from program import DEFAULT_INDEX, EXAMPLES, call, digests, index_digests, manifest, rows, score, scored, table
from tiny import FACES, TEST_ITEMS, TRAIN_ITEMS, write_celeba, write_fashion_mnist

from stylematch.data.celeba import ATTRIBUTES
from stylematch.data.fashion_mnist import CLASSES
from stylematch.vision.bundle import Bundle

ASTRONAUT = EXAMPLES / "astronaut.jpg"


@pytest.fixture(scope="module")
def fashion_mnist(tmp_path_factory):
    return write_fashion_mnist(tmp_path_factory.mktemp("data") / "fashion_mnist")


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    """Six people who are, as the labels say, not young and nothing else: all of them of one style."""
    return write_celeba(tmp_path_factory.mktemp("data") / "celeba", (), missing=("000007.jpg",))


@pytest.fixture(scope="module")
def items(fashion_mnist, tmp_path_factory):
    """Embeddings of the 200 items."""
    return embedded("fashion-mnist", tmp_path_factory.mktemp("items") / "out", "--fashion-mnist", fashion_mnist)


@pytest.fixture(scope="module")
def faces(celeba, tmp_path_factory):
    return embedded("celeba", tmp_path_factory.mktemp("faces") / "out", "--root", celeba)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return embedded(EXAMPLES, tmp_path_factory.mktemp("photos") / "out")


def embed(source, out, *options):
    return call("embed", source, "--out", out, "--device", "cpu", *options)


def embedded(source, out, *options):
    result = embed(source, out, *options)
    assert result.code == 0, result.err
    return out


def built(embeddings, out):
    result = call("index", "build", embeddings, "--out", out)
    assert result.code == 0, result.err
    return out


def described(embeddings):
    return json.loads((embeddings / "embeddings.json").read_text())


def shards(embeddings):
    return pq.read_table(embeddings / "part-00000.parquet")


def vectors(column):
    return np.array(column.to_pylist(), np.float32)


# What embed writes


def test_fashion_mnist_is_embedded_item_by_item(items):
    assert sorted(path.name for path in items.iterdir()) == ["_done", "embeddings.json", "part-00000.parquet"]
    description, found = described(items), shards(items)
    assert description["kind"] == "items"
    assert description["count"] == found.num_rows == TRAIN_ITEMS + TEST_ITEMS
    assert description["categories"] == list(CLASSES)
    assert description["bundle_sha256"] == Bundle.open(DEFAULT_INDEX / "garments").sha256
    assert "MIT" in description["licence"]
    ids = [f"fashion-mnist-{split}-{n:05d}" for split, k in (("train", 80), ("test", 120)) for n in range(k)]
    assert found["id"].to_pylist() == ids
    assert found["category"].to_pylist()[:11] == [*CLASSES, CLASSES[0]]
    assert np.abs(np.linalg.norm(vectors(found["embedding"]), axis=1) - 1).max() < 2e-3  # half floats
    stock = pq.read_table(DEFAULT_INDEX / "items" / "rows.parquet", columns=["picture"])["picture"].to_pylist()
    assert set(found["picture"].to_pylist()) <= set(stock)
    # The pictures are grey: what they would be in colour is not guessed.
    assert found["baseColour"].null_count == found["baseColour_probability"].null_count == len(ids)
    assert found["gender"].null_count == 0


def test_celeba_is_embedded_with_its_true_attributes(faces):
    description, found = described(faces), shards(faces)
    assert description["kind"] == "faces"
    assert description["attribute_names"] == list(ATTRIBUTES)
    assert description["skipped"] == {"unreadable_file": 1}
    assert "non-commercial" in description["licence"]
    assert found["id"].to_pylist() == list(FACES)
    assert found["split"].to_pylist() == ["train"] * 4 + ["val", "test"]
    assert not any(any(found[name].to_pylist()) for name in ATTRIBUTES)
    with (faces / "skipped.csv").open(newline="") as stream:
        header, row = csv.reader(stream)
    assert header == ["path", "reason", "message"]
    assert row[:2] == ["000007.jpg", "unreadable_file"]
    assert "No such file" in row[2]


def test_a_folder_is_embedded_face_by_face_as_score_sees_them(photos, example_run):
    description, found = described(photos), shards(photos)
    scored_faces = table(example_run, "faces")
    assert (description["kind"], description["attribute_names"]) == ("faces", [])
    for name in ("path", "face", "photo_id"):
        assert found[name].to_pylist() == scored_faces[name].to_pylist()
    keys = zip(found["path"].to_pylist(), found["face"].to_pylist(), strict=True)
    assert found["id"].to_pylist() == [f"{path}#{face}" for path, face in keys]
    half = vectors(scored_faces["embedding"]).astype(np.float16)
    assert np.array_equal(vectors(found["embedding"]), half.astype(np.float32))

    rejected = {row["path"]: row["reason"] for row in rows(example_run, "photos") if row["reason"] != "ok"}
    with (photos / "skipped.csv").open(newline="") as stream:
        assert {row["path"]: row["reason"] for row in csv.DictReader(stream)} == rejected
    assert sum(description["skipped"].values()) == len(rejected)


def test_small_faces_are_told_from_no_faces(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    shutil.copy(ASTRONAUT, tmp_path / "photos" / "a.jpg")
    with Image.open(ASTRONAUT) as photo:
        photo.resize((130, 130), Image.Resampling.LANCZOS).save(tmp_path / "photos" / "small.png")
    out = embedded(tmp_path / "photos", tmp_path / "out")
    with (out / "skipped.csv").open(newline="") as stream:
        assert [(row["path"], row["reason"]) for row in csv.DictReader(stream)] == [("small.png", "face_too_small")]


def test_one_split_alone(fashion_mnist, celeba, tmp_path):
    out = embedded("fashion-mnist", tmp_path / "items", "--fashion-mnist", fashion_mnist, "--split", "test")
    assert described(out)["count"] == TEST_ITEMS
    assert set(shards(out)["split"].to_pylist()) == {"test"}
    out = embedded("celeba", tmp_path / "faces", "--root", celeba, "--split", "val", "--split", "test")
    assert shards(out)["id"].to_pylist() == ["000005.jpg", "000006.jpg"]
    assert not (out / "skipped.csv").exists()
    (celeba_of_one := tmp_path / "learned").mkdir()
    for file in celeba.iterdir():
        if file.name != "list_eval_partition.txt":
            (celeba_of_one / file.name).symlink_to(file)
    lines = (celeba / "list_eval_partition.txt").read_text().splitlines()
    (celeba_of_one / "list_eval_partition.txt").write_text("".join(f"{line.split()[0]} 0\n" for line in lines))
    none = embed("celeba", tmp_path / "none", "--root", celeba_of_one, "--split", "val", "--split", "test")
    assert none.code == 2
    assert "no embedding: it has no picture of the split val or test; name another with --split" in none.sentence
    wrong = embed("celeba", tmp_path / "none", "--root", celeba, "--split", "dev")
    assert wrong.code == 2
    assert "--split dev: the splits are train, val, test" in wrong.sentence


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_second_run_with_other_batches_writes_equal_bytes(fashion_mnist, celeba, items, faces, tmp_path, batch_size):
    again = ("--batch-size", batch_size)
    assert digests(embedded("fashion-mnist", tmp_path / "i", "--fashion-mnist", fashion_mnist, *again)) == digests(
        items
    )
    assert digests(embedded("celeba", tmp_path / "f", "--root", celeba, *again)) == digests(faces)


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_shards_are_cut_alike_whatever_the_batches(celeba, tmp_path, monkeypatch, batch_size):
    monkeypatch.setattr("stylematch.pipelines.indexing.embed.SHARD_ROWS", 4)
    # One of the seven pictures is missing, so batches of 2 and of 3 end at other faces than those of 64.
    out = embedded("celeba", tmp_path / "out", "--root", celeba, "--batch-size", batch_size)
    assert [pq.read_metadata(out / f"part-{n:05d}.parquet").num_rows for n in (0, 1)] == [4, 2]
    assert len(list(out.glob("*.parquet"))) == 2
    assert table(out, "")["id"].to_pylist() == sorted(FACES)


def test_embeddings_are_replaced_and_nothing_else(photos, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(photos, out)
    assert embed(ASTRONAUT, out).code == 0
    assert shards(out)["id"].to_pylist() == ["astronaut.jpg#0"]
    assert not (out / "skipped.csv").exists()
    (out / "mine.txt").write_text("keep me")
    before = digests(out)
    result = embed(EXAMPLES, out)
    assert result.code == 2
    assert "mine.txt" in result.sentence
    assert digests(out) == before


def test_a_folder_without_faces_gives_no_embeddings(tmp_path):
    result = embed(EXAMPLES / "coffee.jpg", tmp_path / "out")
    assert result.code == 2
    assert "no embedding: of 1 none could be used; the first, coffee.jpg: no face of 24 px or more" in result.sentence
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    assert "no embedding: there is no picture in it" in embed(tmp_path / "empty", tmp_path / "out").sentence


@pytest.mark.parametrize(("source", "wrong"), [("fashion-mnist", "attributes"), ("celeba", "garments")])
def test_a_model_of_the_wrong_kind_is_refused(fashion_mnist, celeba, tmp_path, source, wrong):
    where = ("--fashion-mnist", fashion_mnist) if source == "fashion-mnist" else ("--root", celeba)
    result = embed(source, tmp_path / "out", *where, "--bundle", DEFAULT_INDEX / wrong)
    assert result.code == 2
    assert wrong in result.sentence
    assert not (tmp_path / "out").exists()


# Indexes


def test_an_items_index_gives_its_own_items(items, tmp_path):
    index = built(items, tmp_path / "index")
    assert built(items, tmp_path / "again")
    assert index_digests(index) == index_digests(tmp_path / "again")
    shown = call("index", "info", index)
    assert "200 items, " in shown.out

    out = scored(EXAMPLES, tmp_path / "out", "--index", index)
    found = rows(out, "recommendations")
    assert {row["item_id"] for row in found} <= set(shards(items)["id"].to_pylist())
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5] * table(out, "faces").num_rows
    assert manifest(out)["sha256"]["items"] != manifest(scored(EXAMPLES, tmp_path / "default"))["sha256"]["items"]
    assert table(out, "faces").equals(table(tmp_path / "default", "faces"))


def test_a_faces_index_votes_with_its_own_labels(faces, tmp_path):
    index = built(faces, tmp_path / "index")
    assert "6 faces, " in call("index", "info", index).out
    out = scored(EXAMPLES, tmp_path / "out", "--index", index)
    assert set(table(out, "faces")["neighbour_style"].to_pylist()) == {"Timeless Elegance"}
    assert "Nothing to do" not in score(EXAMPLES, out).out


def test_two_indexes_together(items, faces, tmp_path):
    collection = tmp_path / "collection"
    collection.mkdir()
    built(items, collection / "items")
    built(faces, collection / "faces")
    one = scored(ASTRONAUT, tmp_path / "one", "--index", collection)
    two = scored(ASTRONAUT, tmp_path / "two", "--index", collection / "faces", "--index", collection / "items")
    assert manifest(one)["run_id"] == manifest(two)["run_id"]
    assert rows(one, "faces")[0]["neighbour_style"] == "Timeless Elegance"
    assert rows(one, "recommendations") == rows(two, "recommendations")


def test_an_unlabelled_gallery_is_refused_before_anything_is_written(photos, tmp_path):
    index = built(photos, tmp_path / "index")
    result = score(ASTRONAUT, tmp_path / "out", "--index", index)
    assert result.code == 2
    assert "labelled" in result.sentence
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_an_index_over_another_models_embeddings_is_refused(faces, celeba, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(DEFAULT_INDEX / "attributes", other)
    description = json.loads((other / "bundle.json").read_text())
    (other / "bundle.json").write_text(json.dumps(description | {"name": "another"}))
    embeddings = embedded("celeba", tmp_path / "embeddings", "--root", celeba, "--bundle", other)
    index = built(embeddings, tmp_path / "index")
    result = score(ASTRONAUT, tmp_path / "out", "--index", index)
    assert result.code == 2
    assert "was not made by the model" in result.sentence
    # Beside the model that made it, it is as good as any.
    collection = tmp_path / "collection"
    collection.mkdir()
    other.rename(collection / "attributes")
    index.rename(collection / "faces")
    assert score(ASTRONAUT, tmp_path / "out", "--index", collection).code == 0


# Job files


def test_a_job_embeds_and_builds_the_index(fashion_mnist, items, tmp_path, monkeypatch):
    job = tmp_path / "items.toml"
    job.write_text(
        f"source = 'fashion-mnist'\nroot = '{fashion_mnist}'\nembeddings = 'work/embeddings'\nindex = 'indexes/items'\n"
    )
    monkeypatch.chdir(tmp_path)
    result = call("embed", "items.toml", "--device", "cpu")
    assert result.code == 0, result.err
    assert "200 embeddings in work/embeddings" in result.out
    assert "index: indexes/items" in result.out
    assert digests(tmp_path / "work" / "embeddings") == digests(items)
    assert index_digests(tmp_path / "indexes" / "items") == index_digests(built(items, tmp_path / "index"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batch = 3", "batch"),
        ("batch_size = 0", "batch_size"),
        ("splits = ['trial']", "splits"),
        ("faces = 'guess'", "faces"),
        ("= 3", "cannot be read"),
    ],
)
def test_a_mistaken_job_names_file_and_key(tmp_path, line, said):
    job = tmp_path / "job.toml"
    job.write_text(f"source = 'celeba'\nembeddings = '{tmp_path / 'out'}'\n{line}\n")
    result = call("embed", job)
    assert result.code == 2
    assert "job.toml" in result.sentence
    assert said in result.sentence
    assert not (tmp_path / "out").exists()


def test_an_index_that_cannot_be_replaced_is_refused_before_the_work(fashion_mnist, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "mine.txt").write_text("keep me")
    job = tmp_path / "job.toml"
    job.write_text(
        f"source = 'fashion-mnist'\nroot = '{fashion_mnist}'\nembeddings = '{tmp_path / 'out'}'\n"
        f"index = '{tmp_path / 'index'}'\n"
    )
    result = call("embed", job, "--device", "cpu")
    assert result.code == 2
    assert "index" in result.sentence
    assert not (tmp_path / "out").exists()
    assert digests(tmp_path / "index").keys() == {"mine.txt"}
