import contextlib
import hashlib
import itertools
import resource
import signal
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch.errors import StylematchError
from stylematch.tables.contract import TABLES, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.shards import is_done, read_sidecar, shard_path, sidecar_path
from stylematch.tables.writer import ROW_GROUP_ROWS, ShardWriter

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32(), 3), nullable=False),
    ]
)
ROWS = 57


def columns(start: int, stop: int) -> dict:
    generator = np.random.default_rng(5)
    embeddings = generator.normal(size=(ROWS, 3)).astype(np.float32)
    numbers = range(start, stop)
    return {
        "path": [f"f{i}\n<script>.jpg" for i in numbers],
        "width": [None if i % 3 == 0 else i for i in numbers],
        "score": np.array([np.nan if i % 7 == 0 else i / 7 for i in numbers], dtype=np.float64),
        "style": ["Casual" if i % 2 else "Formal" for i in numbers],
        "embedding": embeddings[start:stop],
    }


def write(directory: Path, cuts: list[int], row_group_rows: int) -> bytes:
    bounds = [0, *sorted(cuts), ROWS]
    with ShardWriter(directory, 0, SCHEMA, row_group_rows=row_group_rows) as writer:
        for start, stop in itertools.pairwise(bounds):
            writer.write(columns(start, stop))
    return shard_path(directory, 0).read_bytes()


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, ROWS), max_size=20), row_group_rows=st.sampled_from([1, 8, 57, 100]))
def test_bytes_do_not_depend_on_the_callers_batches(tmp_path_factory, cuts, row_group_rows):
    directory = tmp_path_factory.mktemp("t")
    assert write(directory / "a", [], row_group_rows) == write(directory / "b", cuts, row_group_rows)


def test_rows_come_back_as_written_in_row_groups_of_one_size(tmp_path):
    write(tmp_path, [3, 4, 30], 8)
    file = pq.ParquetFile(shard_path(tmp_path, 0))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [8] * 7 + [1]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    table = file.read()
    assert table.schema.equals(SCHEMA)
    expected = columns(0, ROWS)
    assert table["path"].to_pylist() == expected["path"]
    assert table["width"].to_pylist() == expected["width"]
    np.testing.assert_array_equal(table["score"].to_numpy(), expected["score"])
    assert table["score"].null_count == 0  # NaN stays a number
    np.testing.assert_array_equal(np.stack(table["embedding"].to_pandas()), expected["embedding"])


def test_memory_is_bounded_by_row_groups(tmp_path):
    with ShardWriter(tmp_path, 0, SCHEMA, row_group_rows=4) as writer:
        for start in range(0, 56, 7):
            writer.write(columns(start, start + 7))
            assert writer._pending_rows < 4
    assert writer.rows == 56


def test_sidecar_says_what_the_file_is(tmp_path):
    data = write(tmp_path, [], 8)
    info = read_sidecar(tmp_path, 0)
    assert (info.rows, info.bytes, info.sha256) == (ROWS, len(data), hashlib.sha256(data).hexdigest())
    assert is_done(tmp_path, 0)
    assert not is_done(tmp_path, 1)


@pytest.mark.parametrize("damage", ["truncate", "flip", "no sidecar", "torn sidecar", "no file"])
def test_a_torn_shard_is_not_done(tmp_path, damage):
    data = write(tmp_path, [], 8)
    if damage == "truncate":
        shard_path(tmp_path, 0).write_bytes(data[:-10])
    elif damage == "flip":
        shard_path(tmp_path, 0).write_bytes(bytes([*data[:100], data[100] ^ 1]) + data[101:])
    elif damage == "no sidecar":
        sidecar_path(tmp_path, 0).unlink()
    elif damage == "torn sidecar":
        sidecar_path(tmp_path, 0).write_text('{"rows": 5')
    else:
        shard_path(tmp_path, 0).unlink()
    assert not is_done(tmp_path, 0)


@pytest.mark.parametrize(
    "schema", [photos_schema(), faces_schema(["Smiling"], 8), recommendations_schema()], ids=TABLES
)
def test_empty_tables_keep_their_schema(tmp_path, schema):
    with ShardWriter(tmp_path, 0, schema):
        pass
    assert is_done(tmp_path, 0)
    assert read_sidecar(tmp_path, 0).rows == 0
    assert pq.read_table(shard_path(tmp_path, 0)).schema.equals(schema)


def test_folder_reads_as_one_data_set(tmp_path):
    table = tmp_path / "photos"
    for number in range(3):
        with ShardWriter(table, number, SCHEMA) as writer:
            writer.write(columns(number * 10, number * 10 + 10))
    assert len(pd.read_parquet(table)) == 30
    assert pq.read_table(table).num_rows == 30
    assert ds.dataset(table).count_rows() == 30
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{table}/*.parquet')").fetchall() == [(30,)]


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    with (  # noqa: PT012
        pytest.raises(RuntimeError, match="stop"),
        ShardWriter(tmp_path, 0, SCHEMA, row_group_rows=4) as writer,
    ):
        writer.write(columns(0, 20))
        raise RuntimeError("stop")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_rewriting_a_shard_replaces_it(tmp_path):
    first = write(tmp_path, [], 8)
    with ShardWriter(tmp_path, 0, SCHEMA) as writer:
        assert is_done(tmp_path, 0)
        assert shard_path(tmp_path, 0).read_bytes() == first
        writer.write(columns(0, 1))
    assert read_sidecar(tmp_path, 0).rows == 1
    assert is_done(tmp_path, 0)


@pytest.mark.parametrize("first_done", [0, 1])
def test_two_writers_of_one_shard_leave_what_one_leaves(tmp_path, first_done):
    # A worker that was given up lives on and writes beside the one that took its place.
    alone = write(tmp_path / "alone", [], 8)
    together = tmp_path / "together"
    writers = [ShardWriter(together, 0, SCHEMA, row_group_rows=8) for _ in range(2)]
    for writer in writers:
        writer.__enter__()
    for start, stop in ((0, 30), (30, ROWS)):
        for writer in writers:
            writer.write(columns(start, stop))
    writers[first_done].__exit__(None, None, None)
    assert is_done(together, 0)
    late = ShardWriter(together, 0, SCHEMA)
    with contextlib.suppress(RuntimeError), late:  # one that begins when all is done, and is killed
        assert is_done(together, 0)
        raise RuntimeError
    writers[1 - first_done].__exit__(None, None, None)
    assert is_done(together, 0)
    assert read_sidecar(together, 0).rows == ROWS
    assert shard_path(together, 0).read_bytes() == alone
    assert len([path for path in together.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": None}, "style"),
        ({"extra": [1, 2]}, "extra"),
        ({"style": ["a", None]}, "1 nulls"),
        ({"embedding": np.zeros((2, 4), np.float32)}, r"\(2, 4\)"),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path, change, message):
    given_columns = {k: v for k, v in {**columns(0, 2), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message), ShardWriter(tmp_path, 0, SCHEMA) as writer:
        writer.write(given_columns)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    # RLIMIT_FSIZE makes the kernel refuse the write as a full disk does, for every user.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    noise = np.random.default_rng(0).bytes(400_000).hex()
    try:
        with pytest.raises(  # noqa: PT012
            StylematchError, match=r"could not write .*part-00000\.parquet: File too large"
        ) as caught:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
            with ShardWriter(tmp_path, 0, SCHEMA, row_group_rows=2) as writer:
                writer.write({**columns(0, 2), "path": [noise[:400_000], noise[400_000:]]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.exit_code == 3
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


STYLES = ("Boardroom", "Bohemian", "City Chic", "Minimalist")


def write_faces(directory: Path, cuts: list[int], count: int = 5000) -> Path:
    """Write faces whose styles are mixed, in batches that end at ``cuts``."""
    schema = pa.schema([("path", pa.string()), ("face", pa.int32()), ("style", pa.string())])
    styles = np.random.default_rng(1).choice(STYLES, count)
    with ShardWriter(directory / "faces", 0, schema) as writer:
        for start, end in itertools.pairwise([0, *sorted(cuts), count]):
            rows = range(start, end)
            writer.write({"path": [f"{row:05d}.jpg" for row in rows], "face": [0] * len(rows), "style": styles[rows]})
    return directory / "faces" / "part-00000.parquet"


def test_faces_of_one_style_stand_together_so_that_row_groups_are_skipped(tmp_path):
    file = pq.ParquetFile(write_faces(tmp_path, []))
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    assert [group.num_rows for group in groups] == [1024] * 4 + [904]
    column = file.schema_arrow.names.index("style")
    ranges = [(g.column(column).statistics.min, g.column(column).statistics.max) for g in groups]
    for style in STYLES:
        assert sum(low <= style <= high for low, high in ranges) <= 3
    assert all("RLE_DICTIONARY" in group.column(column).encodings for group in groups)
    (fragment,) = ds.dataset(tmp_path / "faces" / "part-00000.parquet").get_fragments()
    kept = fragment.split_by_row_group(filter=pc.field("style") == "Boardroom")
    assert len(kept) < len(groups)
    table = file.read()
    assert sorted(table["path"].to_pylist()) == [f"{row:05d}.jpg" for row in range(5000)]
    for style in STYLES:  # within a style the rows stand as they came
        paths = table.filter(pc.field("style") == style)["path"].to_pylist()
        assert paths == sorted(paths)


@given(cuts=st.lists(st.integers(0, 5000), max_size=5))
@settings(max_examples=10)
def test_clustered_bytes_do_not_depend_on_the_callers_batches(tmp_path_factory, cuts):
    directory = tmp_path_factory.mktemp("clustered")
    assert write_faces(directory / "a", []).read_bytes() == write_faces(directory / "b", cuts).read_bytes()


def test_every_block_is_clustered_by_itself(tmp_path):
    styles = pq.read_table(write_faces(tmp_path, [], 20_000), partitioning=None)["style"].to_pylist()
    for start in range(0, 20_000, ROW_GROUP_ROWS):
        block = styles[start : start + ROW_GROUP_ROWS]
        assert block == sorted(block)
    assert styles != sorted(styles)


def test_other_tables_keep_their_order(tmp_path):
    schema = pa.schema([("path", pa.string()), ("style", pa.string())])
    with ShardWriter(tmp_path / "other", 0, schema) as writer:
        writer.write({"path": ["a", "b"], "style": ["z", "y"]})
    assert pq.read_table(tmp_path / "other" / "part-00000.parquet")["style"].to_pylist() == ["z", "y"]
