"""VectorIndex against a float64 reference, its directory on disk, and building from embedding shards."""

import json
import shutil

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.errors import UserError
from stylematch.pipelines.indexing.index import build_index, describe_index
from stylematch.search import scan
from stylematch.search.directory import load_index_directory
from stylematch.search.exact import VectorIndex

ATTRIBUTES = ("Male", "Smiling")


def clustered(seed, n, d, clusters=20, spread=0.05):
    """Return vectors in tight clusters, as embeddings are, some of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, d))
    vectors = (centres[rng.integers(clusters, size=n)] + spread * rng.normal(size=(n, d))).astype(np.float32)
    vectors[n // 2 : n // 2 + n // 10] = vectors[: n // 10]
    return vectors


def reference_scores(index, queries):
    """Return float64 cosines (q, n) of the queries with the vectors that the index holds."""
    unit = queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    return unit @ index.vectors(np.arange(len(index))).astype(np.float64).T


def assert_exact(index, queries, hits, k, allowed=None):
    """Fair to ties: scores are the k best, each position must have its score, equal scores stand by id."""
    scores = reference_scores(index, queries)
    pool = np.arange(len(index)) if allowed is None else np.unique(allowed)
    found = min(k, len(pool))
    assert hits.positions.shape == hits.scores.shape == (len(queries), k)
    assert hits.positions.dtype == np.int64
    assert hits.scores.dtype == np.float64
    for row in range(len(queries)):
        positions = hits.positions[row, :found]
        assert len(set(positions.tolist())) == found
        assert set(positions.tolist()) <= set(pool.tolist())
        np.testing.assert_allclose(hits.scores[row, :found], scores[row, positions], atol=1e-12, rtol=0)
        best = np.sort(scores[row, pool])[::-1][:found]
        np.testing.assert_allclose(hits.scores[row, :found], best, atol=1e-12, rtol=0)
        keys = [(-s, index.ids[p]) for s, p in zip(hits.scores[row, :found], positions, strict=True)]
        assert keys == sorted(keys)
    assert (hits.positions[:, found:] == -1).all()
    assert np.isneginf(hits.scores[:, found:]).all()


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 10_000), st.data())
def test_the_best_products_are_found_however_many_are_asked(queries, rows, seed, data):
    count = data.draw(st.integers(1, rows))
    rng = np.random.default_rng(seed)
    # Small whole numbers: products are exact in float32, and many are equal.
    unit = rng.integers(-3, 4, (queries, 5)).astype(np.float32)
    stored = rng.integers(-3, 4, (rows, 5)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_PRODUCTS", 3 * rows)  # several parts
        scores, found = scan.best_products(unit, stored, count)
    products = unit @ stored.T
    assert scores.shape == found.shape == (queries, count)
    assert all(len(set(row)) == count for row in found.tolist())
    np.testing.assert_array_equal(scores, np.take_along_axis(products, found, axis=1))
    np.testing.assert_array_equal(np.sort(scores, axis=1)[:, ::-1], np.sort(products, axis=1)[:, ::-1][:, :count])
    np.testing.assert_array_equal(scores[:, -1], scores.min(axis=1))


def names(n):
    # Not in the order of the positions, so that the order by id shows.
    return [f"id-{(position * 7919) % 100_003:06d}" for position in range(n)]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 300),
    d=st.integers(1, 40),
    q=st.integers(0, 30),
    k=st.integers(1, 60),
    storage=st.sampled_from(["fp16", "fp32"]),
    share=st.none() | st.floats(0, 1),
)
def test_search_is_exact(seed, n, d, q, k, storage, share):
    rng = np.random.default_rng(seed)
    index = VectorIndex.build(names(n), clustered(seed, n, d, clusters=5), storage=storage)
    queries = clustered(seed + 1, q, d, clusters=5) if q else np.empty((0, d), np.float32)
    allowed = None if share is None else rng.integers(n, size=int(share * n))
    hits = index.search(queries, k, allowed=allowed)
    assert_exact(index, queries, hits, k, allowed)
    if allowed is not None and len(np.unique(allowed)) < n:
        outside = np.setdiff1d(np.arange(n), allowed)
        assert not np.isin(hits.positions, outside).any()


@pytest.fixture(scope="module")
def large():
    return VectorIndex.build(names(8000), clustered(3, 8000, 64)), clustered(4, 300, 64)


def test_batches_do_not_change_a_bit(large):
    index, queries = large
    together = index.search(queries, 50)
    assert_exact(index, queries, together, 50)
    for size in (1, 7, 64):
        parts = [index.search(queries[start : start + size], 50) for start in range(0, len(queries), size)]
        np.testing.assert_array_equal(np.concatenate([p.positions for p in parts]), together.positions)
        np.testing.assert_array_equal(
            np.concatenate([p.scores for p in parts]).view(np.int64), together.scores.view(np.int64)
        )
    fortran = index.search(np.asfortranarray(queries), 50)
    np.testing.assert_array_equal(fortran.scores, together.scores)


def test_threads_do_not_change_a_bit(large, tmp_path):
    index, queries = large
    index.save(tmp_path)
    before = faiss.omp_get_max_threads()
    try:
        one = VectorIndex.load(tmp_path, threads=1)
        assert faiss.omp_get_max_threads() == 1
        hits = one.search(queries, 20)
        faiss.omp_set_num_threads(3)
        many = index.search(queries, 20)
    finally:
        faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(hits.scores, many.scores)


def test_more_ties_than_proposals():
    # 500 equal vectors: FAISS proposes 32 more than k and could not know which ids come first.
    rng = np.random.default_rng(0)
    vector = rng.normal(size=16)
    vectors = np.concatenate([np.tile(vector, (500, 1)), rng.normal(size=(500, 16))])
    order = rng.permutation(1000)
    ids = [f"{place:04d}" for place in order]
    index = VectorIndex.build(ids, vectors)
    hits = index.search(vector[None], 5)
    assert [index.ids[p] for p in hits.positions[0]] == sorted(ids[:500])[:5]
    assert_exact(index, vector[None], hits, 5)


def test_nearly_equal_vectors_are_ordered_below_float32():
    # Differences of 1e-9 in the score are invisible to FAISS's float32.
    base = np.zeros((400, 8))
    base[:, 0] = 1
    base[:, 1] = 1e-5 * np.arange(400)
    index = VectorIndex.build(names(400), base, storage="fp32")
    query = np.eye(8)[:1]
    hits = index.search(query, 10)
    assert_exact(index, query, hits, 10)


def test_queries_are_normalised_and_own_vector_is_first(large):
    index, _ = large
    vectors = index.vectors([5, 17])
    hits = index.search(vectors * np.array([[1e-20], [1e20]], np.float32), 1)
    np.testing.assert_allclose(hits.scores[:, 0], np.linalg.norm(vectors, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(index.vectors(hits.positions[:, 0]), vectors)


@pytest.mark.parametrize("storage", ["fp16", "fp32"])
def test_save_and_load(tmp_path, storage):
    vectors = clustered(1, 500, 24)
    built = VectorIndex.build(names(500), vectors, storage=storage)
    built.save(tmp_path)
    loaded = VectorIndex.load(tmp_path, device="cuda")  # without a GPU in FAISS: the CPU
    assert loaded.ids == built.ids
    assert loaded.storage == storage
    assert loaded.bytes_per_vector == 24 * (2 if storage == "fp16" else 4)
    np.testing.assert_array_equal(loaded.vectors(np.arange(500)), built.vectors(np.arange(500)))
    np.testing.assert_array_equal(loaded.search(vectors[:9], 7).scores, built.search(vectors[:9], 7).scores)
    # Saved again it is the same file: nothing is rounded twice.
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again)
    assert (again / "index.faiss").read_bytes() == (tmp_path / "index.faiss").read_bytes()
    assert (tmp_path / "index.faiss").stat().st_size < 500 * loaded.bytes_per_vector + 200


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_without_direction_is_named(bad):
    vectors = np.ones((3, 4))
    vectors[1] = bad
    with pytest.raises(UserError, match="'second'"):
        VectorIndex.build(["first", "second", "third"], vectors)


def test_refusals(large):
    index, queries = large
    with pytest.raises(UserError, match=r"2 ids occur more than once: 'a', 'b'"):
        VectorIndex.build(["a", "b", "a", "c", "b", "a"], np.ones((6, 2)))
    with pytest.raises(UserError, match="at least one"):
        VectorIndex.build([], np.empty((0, 4)))
    with pytest.raises(ValueError, match=r"expected \(q, 64\)"):
        index.search(queries[:, :3], 5)
    with pytest.raises(ValueError, match="at least 1"):
        index.search(queries, 0)
    with pytest.raises(ValueError, match="not finite"):
        index.search(np.full((1, 64), np.nan), 1)
    for wrong in (-1, len(index)):
        with pytest.raises(ValueError, match="0 to 7999"):
            index.search(queries, 1, allowed=np.array([wrong]))


def write_embeddings(directory, vectors, ids, kind="items", shards=2, **changes):
    directory.mkdir(exist_ok=True)
    n, d = vectors.shape
    columns = {
        "id": pa.array(ids),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), d),
    }
    description = {
        "kind": kind, "dim": d, "count": n, "bundle_sha256": "ab" * 32, "source": "a test", "licence": "none",
    }  # fmt: skip
    if kind == "items":
        columns["category"] = pa.array([("Coat", "Dress")[i % 2] for i in range(n)])
        columns["picture"] = pa.array([bytes([i % 256]) * 784 for i in range(n)], pa.binary(784))
        columns["price_eur"] = pa.array(np.arange(n, dtype=np.float64))
        description["categories"] = ["Coat", "Dress", "Shirt"]
    else:
        columns |= {name: pa.array(np.arange(n) % (3 + i) == 0) for i, name in enumerate(ATTRIBUTES)}
        description["attribute_names"] = list(ATTRIBUTES)
    table = pa.table(columns)
    step = -(-n // shards)
    for number in range(shards):
        pq.write_table(table.slice(number * step, step), directory / f"part-{number:05d}.parquet")
    (directory / "embeddings.json").write_text(json.dumps(description | changes))
    return table


@pytest.mark.parametrize("kind", ["items", "faces"])
def test_build_an_index_from_shards(tmp_path, kind):
    vectors = clustered(2, 101, 12)
    table = write_embeddings(tmp_path / "shards", vectors, names(101), kind)
    out = tmp_path / "made" / "index=1"  # not to be taken for a partition
    infos = build_index(tmp_path / "shards", out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["index=1"]
    assert infos == json.loads((out / "infos.json").read_text())
    assert (infos["kind"], infos["count"], infos["dim"], infos["faiss"]) == (kind, 101, 12, "SQfp16")
    stored = load_index_directory(out)
    assert stored.infos == infos
    assert stored.rows.equals(table.drop_columns(["embedding"]))
    assert stored.index.ids == tuple(names(101))
    assert stored.rows["id"].to_pylist() == names(101)
    halves = vectors.astype(np.float16).astype(np.float64)
    cosines = (stored.index.vectors(np.arange(101)) * halves).sum(axis=1) / np.linalg.norm(halves, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


def test_equal_embeddings_give_equal_files_and_an_index_is_replaced(tmp_path):
    write_embeddings(tmp_path / "a", clustered(2, 50, 8), names(50), shards=1)
    write_embeddings(tmp_path / "b", clustered(2, 50, 8), names(50), shards=3)
    build_index(tmp_path / "a", tmp_path / "one")
    build_index(tmp_path / "b", tmp_path / "two")
    first = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    write_embeddings(tmp_path / "c", clustered(9, 60, 8), names(60))
    build_index(tmp_path / "c", tmp_path / "one")
    assert len(load_index_directory(tmp_path / "one").index) == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "one", "two"]


def test_what_is_not_an_index_stays(tmp_path):
    write_embeddings(tmp_path / "a", clustered(2, 50, 8), names(50))
    build_index(tmp_path / "a", tmp_path / "one")
    (tmp_path / "one" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        build_index(tmp_path / "a", tmp_path / "one")
    with pytest.raises(UserError, match="does not hold an index"):
        build_index(tmp_path / "a", tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        build_index(tmp_path / "a", tmp_path / "file")
    assert (tmp_path / "one" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 51}, "holds 50 embeddings in 2 shards"),
        ({"dim": 9}, "not a list of 9 numbers"),
        ({"kind": "shoes"}, "'kind' is 'shoes'"),
        ({"categories": ["Coat"]}, "unknown category 'Dress'"),
    ],
)
def test_shards_that_do_not_fit(tmp_path, changes, message):
    write_embeddings(tmp_path / "a", clustered(2, 50, 8), names(50), **changes)
    with pytest.raises(UserError, match=message):
        build_index(tmp_path / "a", tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_embeddings_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"embeddings\.json"):
        build_index(tmp_path, tmp_path / "one")
    write_embeddings(tmp_path / "a", clustered(2, 4, 8), ["x", "y", "x", "z"])
    with pytest.raises(UserError, match="'x'"):
        build_index(tmp_path / "a", tmp_path / "one")
    (tmp_path / "a" / "part-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"part-00001\.parquet"):
        build_index(tmp_path / "a", tmp_path / "one")
    (tmp_path / "a" / "embeddings.json").write_text('{"kind": "items"}')
    with pytest.raises(UserError, match="lacks dim, count"):
        build_index(tmp_path / "a", tmp_path / "one")


@pytest.mark.parametrize(
    "numbers",
    [
        pa.array([0.5, None] * 16, pa.float32()),
        pa.array(["0.5"] * 32),
        pa.array([True, False] * 16),
        pa.array([1] * 32),
    ],
)
def test_embeddings_that_are_no_numbers(tmp_path, numbers):
    table = write_embeddings(tmp_path / "a", clustered(2, 4, 8), names(4), shards=1)
    column = pa.FixedSizeListArray.from_arrays(numbers, 8)
    table = table.set_column(table.column_names.index("embedding"), "embedding", column)
    pq.write_table(table, tmp_path / "a" / "part-00000.parquet")
    with pytest.raises(UserError, match=r"column 'embedding' is .*, not a list of 8 numbers; embed the data again"):
        build_index(tmp_path / "a", tmp_path / "one")


@pytest.fixture
def built(tmp_path):
    write_embeddings(tmp_path / "shards", clustered(2, 50, 8), names(50))
    build_index(tmp_path / "shards", tmp_path / "index")
    shutil.rmtree(tmp_path / "shards")
    return tmp_path / "index"


@pytest.mark.parametrize("name", ["index.faiss", "rows.parquet", "infos.json"])
def test_a_damaged_or_missing_file_is_named(built, name):
    data = bytearray((built / name).read_bytes())
    data[len(data) // 2] ^= 1
    (built / name).write_bytes(data if name != "infos.json" else b"{")
    with pytest.raises(UserError, match=name):
        load_index_directory(built)
    (built / name).unlink()
    with pytest.raises(UserError, match=name):
        load_index_directory(built)


def test_a_foreign_faiss_index_is_refused(built):
    hnsw = faiss.IndexHNSWFlat(8, 4)
    hnsw.add(clustered(2, 50, 8))
    (built / "index.faiss").write_bytes(faiss.serialize_index(hnsw).tobytes())
    with pytest.raises(UserError, match="IndexHNSWFlat"):
        VectorIndex.load(built)
    (built / "index.faiss").write_bytes(b"no index")
    with pytest.raises(UserError, match=r"index\.faiss cannot be read"):
        VectorIndex.load(built)


def test_describe(built, tmp_path):
    text = describe_index(built)
    assert text.startswith("50 items, 8 dimensions, cosine\n")
    for part in (
        "SQfp16, 16 bytes per vector",
        "categories that rules can name: Coat, Dress, Shirt",
        "ab" * 32,
        "source: a test",
        "licence: none",
    ):
        assert part in text
    collection = tmp_path / "collection"
    collection.mkdir()
    with pytest.raises(UserError, match="is no index"):
        describe_index(collection)
    built.rename(collection / "items")
    assert describe_index(collection) == f"items/: {text}"
    (collection / "garments").mkdir()
    with pytest.raises(UserError, match="not a model bundle"):
        describe_index(collection)
