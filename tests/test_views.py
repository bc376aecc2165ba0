"""What ``query`` can ask: nights, items, gallery faces, predictions; and the tutorial's queries."""

import csv
import errno
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from damaged import flip
from program import DEFAULT_INDEX, EXAMPLES, call, manifest, scored, stored, table

HOW_IT_WORKS = REPOSITORY / "docs" / "how-it-works" / "tables.md"
TUTORIAL = REPOSITORY / "docs" / "tutorials" / "query.md"
# What another model, or other photos, may leave without an answer.
MAY_BE_EMPTY = ("rule_style <>", "Smiling > 0.8", "HAVING count(*) > 1")
QUERIES = re.findall(r'^```sql( title="nights")?\n(.*?)^```$', TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)


def ask(out, sql, *options) -> list[dict]:
    result = call("query", out, sql, "--format", "json", *options)
    assert result.code == 0, result.err
    return json.loads(result.out)


def refused(out, sql, *options) -> str:
    result = call("query", out, sql, *options)
    assert result.code == 2
    return result.sentence


@pytest.fixture(scope="module")
def nights(example_run, tmp_path_factory) -> Path:
    """Two nights: on the first some faces had another style, a column was missing and the embedding was shorter."""
    root = tmp_path_factory.mktemp("nights") / "it's a root"
    for date in ("2026-01-31", "2026-02-01"):
        shutil.copytree(example_run, root / "snapshots" / date, ignore=shutil.ignore_patterns("report"))
    path = root / "snapshots" / "2026-01-31" / "faces" / "part-00000.parquet"
    faces = pq.read_table(path)
    place = faces.column_names.index("style")
    styles = faces["style"].to_pylist()
    faces = faces.set_column(place, "style", pa.array(["Other", *styles[1:]])).drop_columns(["Smiling"])
    short = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4 * len(faces), np.float32)), 4)
    faces = faces.set_column(faces.column_names.index("embedding"), "embedding", short)
    pq.write_table(faces, path)
    for other in ("2026-02-02", "20260203", "notes"):  # unfinished, or no night's name
        (root / "snapshots" / other).mkdir()
    return root


def test_a_night_that_may_not_be_read_is_not_left_out(nights, monkeypatch):
    denied, opened = nights / "snapshots" / "2026-01-31" / "manifest.json", Path.open

    def guarded(path, *arguments, **options):
        if path == denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    said = refused(nights, "SELECT count(*) FROM photos_history")
    assert "snapshots/2026-01-31 cannot be read: Permission denied" in said


def test_a_night_whose_manifest_is_damaged_is_named(nights, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(nights, root)
    count = "SELECT DISTINCT snapshot_date::VARCHAR AS night FROM photos_history"
    older, newer = (root / "snapshots" / name / "manifest.json" for name in ("2026-01-31", "2026-02-01"))
    whole = older.read_text()
    assert call("query", root, count).err == ""
    older.write_text(whole.replace('"sha256"', '"sha25v"'))
    result = call("query", root, count, "--format", "csv")
    assert result.out.split() == ["night", "2026-02-01"]
    assert f"warning: damaged or missing, so these nights are left out: {older}; put the file back" in result.sentence
    assert result.sentence.endswith("export JOB.toml --date 2026-01-31")
    older.write_text(whole)
    newer.write_text('{"tool": "stylem')
    said = call("query", root, count).sentence
    assert f"left out (photos, faces and recommendations are those of 2026-01-31): {newer};" in said
    # What is named itself is no answer: the night, a link to it, a root in which no night is whole.
    (root / "latest").symlink_to(Path("snapshots") / "2026-02-01")
    for run in (newer.parent, root / "latest"):
        assert f"{run / 'manifest.json'} is damaged" in refused(run, count)
        assert refused(run, count).endswith("export JOB.toml --date 2026-02-01")
        assert "manifest.json is damaged" in call("compare", run, older.parent).sentence
    older.write_text("")
    assert f"{older}, {newer} are damaged" in refused(root, count)
    shutil.copytree(older.parent, tmp_path / "run")
    assert "put the file back from a copy, or move the folder away" in refused(tmp_path / "run", count)


def test_a_flipped_bit_of_a_table_is_no_answer(nights, tmp_path):
    root, sql = tmp_path / "root", "SELECT sum(score) FROM recommendations_history"
    shutil.copytree(nights, root)
    file = root / "snapshots" / "2026-02-01" / "recommendations" / "part-00000.parquet"
    content = file.read_bytes()
    for back in range(3, 40, 7):  # some of which would show as other values
        flip(file, "score", back)
        said = refused(root, sql)
        assert f"the query failed: {file} is damaged: " in said
        assert said.endswith("; run score again")
        file.write_bytes(content)
    assert ask(root, sql)


def test_the_plain_names_are_the_newest_nights(nights, example_run):
    same = "SELECT * FROM {} ORDER BY ALL"
    for name in ("photos", "faces", "recommendations"):
        assert ask(nights, same.format(name)) == ask(example_run, same.format(name))


def test_a_history_holds_every_night_under_its_date(nights, example_run):
    items = table(example_run, "recommendations").num_rows
    sql = "SELECT snapshot_date, typeof(snapshot_date) AS t, count(*) AS n FROM recommendations_history GROUP BY ALL"
    assert ask(nights, f"{sql} ORDER BY 1") == [
        {"snapshot_date": day, "t": "DATE", "n": items} for day in ("2026-01-31", "2026-02-01")
    ]
    changed = ask(
        nights,
        "SELECT a.path, a.style, b.style AS now FROM faces_history a JOIN faces_history b USING (path, face) "
        "WHERE a.snapshot_date < b.snapshot_date AND a.style <> b.style",
    )
    first = stored(example_run, "faces").to_pylist()[0]
    assert changed == [{"path": first["path"], "style": "Other", "now": first["style"]}]


def test_columns_that_nights_do_not_share(nights):
    columns = {row["column_name"]: row["column_type"] for row in ask(nights, "DESCRIBE faces_history")}
    assert "embedding" not in columns
    missing = ask(nights, "SELECT snapshot_date, count(Smiling) AS n FROM faces_history GROUP BY 1 ORDER BY 1")
    assert [row["n"] > 0 for row in missing] == [False, True]


def test_a_condition_on_dates_opens_only_those_nights(nights, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(nights, root)
    (root / "snapshots" / "2026-01-31" / "recommendations" / "part-00000.parquet").write_bytes(
        (root / "snapshots" / "2026-01-31" / "photos" / "part-00000.parquet").read_bytes()[:-9] + b"\0\0\0\0\0PAR1"
    )
    # The first night's footer cannot be read at all, so even opening says so, naming the file.
    assert "2026-01-31/recommendations/part-00000.parquet cannot be read" in refused(root, "SELECT 1")
    shutil.copy(
        nights / "snapshots" / "2026-01-31" / "recommendations" / "part-00000.parquet",
        root / "snapshots" / "2026-01-31" / "recommendations",
    )
    path = root / "snapshots" / "2026-01-31" / "recommendations" / "part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)  # the pages, not the footer
    path.write_bytes(bytes(data))
    sql = "SELECT count(item_id) AS n FROM recommendations_history WHERE snapshot_date {} DATE '2026-02-01'"
    assert ask(root, sql.format(">="))[0]["n"] > 0
    assert "the query failed" in refused(root, "SELECT * FROM recommendations_history")


def test_a_folder_without_a_finished_night_is_refused(tmp_path):
    (tmp_path / "snapshots" / "2026-01-01").mkdir(parents=True)
    assert "is not a finished run" in refused(tmp_path, "SELECT 1")


def test_items_and_gallery_faces_are_those_of_the_run(example_run):
    assert ask(example_run, "SELECT count(*) AS n FROM recommendations r ANTI JOIN items i ON i.id = r.item_id") == [
        {"n": 0}
    ]
    assert ask(example_run, "SELECT count(*) AS n, count(DISTINCT category) AS c FROM items") == [{"n": 10000, "c": 10}]
    rows = pq.read_table(DEFAULT_INDEX / "faces" / "rows.parquet", columns=["Smiling"])
    smiling = sum(rows["Smiling"].to_pylist())
    assert ask(example_run, "SELECT count(*) AS n FROM gallery_faces WHERE Smiling") == [{"n": smiling}]
    assert ask(example_run, "SELECT count(*) AS n FROM items", "--index", DEFAULT_INDEX) == [{"n": 10000}]


def test_another_index_is_not_taken_for_the_runs(example_run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(example_run, out, ignore=shutil.ignore_patterns("report"))
    content = manifest(out)
    content["sha256"]["items"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(content))
    assert ask(out, "SELECT count(*) > 0 AS yes FROM gallery_faces") == [{"yes": True}]
    sentence = refused(out, "SELECT * FROM items")
    assert "The run used another index for items: name it with --index" in sentence
    sentence = refused(out, "SELECT 1", "--index", DEFAULT_INDEX)
    assert "used another index for items" in sentence
    assert "run 'score' again" in sentence
    assert "neither an index" in refused(out, "SELECT 1", "--index", tmp_path)


def test_what_was_switched_off_is_not_in_the_gallery_faces(example_run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(example_run, out, ignore=shutil.ignore_patterns("report"))
    content = manifest(out)
    content["settings"]["without"] = ["Male"]
    (out / "manifest.json").write_text(json.dumps(content))
    columns = [row["column_name"] for row in ask(out, "DESCRIBE gallery_faces")]
    assert "Young" in columns
    assert "Male" not in columns


def test_predictions_can_be_asked(tmp_path):
    out = tmp_path / "predicted"
    result = call("predict", DEFAULT_INDEX / "garments", EXAMPLES / "rocket.jpg", "--out", out, "--no-sheet")
    assert result.code == 0, result.err
    rows = ask(out, "SELECT path, category FROM predictions JOIN photos USING (path)")
    assert [row["path"] for row in rows] == ["rocket.jpg"]
    assert "The tables are photos, predictions." in refused(out, "SELECT * FROM faces")


def test_the_tutorial_has_a_dozen_queries():
    assert len(QUERIES) >= 12
    assert sum(bool(over_nights) for over_nights, _ in QUERIES) >= 3


def test_the_join_of_recommendations_with_items_is_answered_and_loses_none(example_run):
    (sql,) = re.findall(r"^```sql\n(.*?)^```$", HOW_IT_WORKS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(ask(example_run, sql)) == 10
    joined, limited = sql.split("FROM ")[1].split("ORDER BY")
    assert "LIMIT 10" in limited
    ((count,),) = (row.values() for row in ask(example_run, f"SELECT count(*) FROM {joined}"))
    ((rows,),) = (row.values() for row in ask(example_run, "SELECT count(*) FROM recommendations"))
    assert count == rows > 10


@pytest.mark.parametrize(("over_nights", "sql"), QUERIES)
def test_a_query_of_the_tutorial_is_answered(example_run, nights, over_nights, sql):
    result = call("query", nights if over_nights else example_run, sql, "--format", "csv")
    assert result.code == 0, result.err
    rows = list(csv.reader(io.StringIO(result.out)))
    assert len(rows) > 1 or any(words in sql for words in MAY_BE_EMPTY), sql
    assert "" not in rows[0]


def test_what_the_tutorial_says_of_readers(example_run, monkeypatch, tmp_path):
    pytest.importorskip("polars")
    code = re.search(r"^```python\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "my-run").symlink_to(example_run)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(TUTORIAL), "exec"), {})


@pytest.mark.parametrize("name", ["photos", "faces", "recommendations"])
def test_other_tools_read_the_same_table(example_run, name):
    import duckdb
    import pandas

    expected = stored(example_run, name)
    keys = [key for key in ("path", "face", "rank") if key in expected.column_names]
    by_pandas = pandas.read_parquet(example_run / name)
    by_duckdb = duckdb.read_parquet(str(example_run / name / "*.parquet")).to_arrow_table()
    assert by_pandas.shape == (expected.num_rows, expected.num_columns)
    assert list(by_pandas.columns) == by_duckdb.column_names == expected.column_names
    for key in keys:
        assert by_pandas[key].tolist() == by_duckdb[key].to_pylist() == expected[key].to_pylist()
    polars = pytest.importorskip("polars")
    by_polars = polars.read_parquet(example_run / name / "*.parquet")
    assert by_polars.columns == expected.column_names
    assert by_polars.select(keys).rows() == [tuple(row.values()) for row in expected.select(keys).to_pylist()]
    if name == "faces":
        whole = np.stack(expected["embedding"].to_pylist())
        assert np.array_equal(np.stack(by_pandas["embedding"]), whole)
        assert np.array_equal(by_polars["embedding"].to_numpy(), whole)
        assert np.array_equal(np.stack(by_duckdb["embedding"].to_pylist()), whole)


@pytest.mark.parametrize("name", ["photos", "faces", "recommendations"])
def test_spark_reads_the_same_table(example_run, name):
    sql = pytest.importorskip("pyspark.sql", reason="pyspark, which needs a Java, is not installed")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    expected = table(example_run, name)
    frame = session.read.parquet(str(example_run / name))
    assert frame.columns == expected.column_names
    assert sorted(row.path for row in frame.select("path").collect()) == sorted(expected["path"].to_pylist())


def test_scored_runs_are_told_from_roots(example_run, tmp_path):
    # A run that has a folder called snapshots stays a run.
    out = scored(EXAMPLES / "astronaut.jpg", tmp_path / "out")
    (out / "snapshots" / "2026-01-01").mkdir(parents=True)
    assert [row["name"] for row in ask(out, "SHOW TABLES")] == [
        "faces",
        "gallery_faces",
        "items",
        "photos",
        "recommendations",
    ]


def linked(path: Path, outside: Path) -> None:
    """Move a file or folder out and leave a link to it."""
    path.rename(outside)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    "within",
    ["faces/part-00000.parquet", "faces", "photos", "manifest.json", "recommendations/part-00000.parquet"],
)
def test_nothing_is_read_through_a_link_in_a_run(example_run, tmp_path, within):
    out = tmp_path / "run"
    shutil.copytree(example_run, out, ignore=shutil.ignore_patterns("report"))
    assert ask(out, "SELECT 1 AS one") == [{"one": 1}]
    linked(out / within, tmp_path / "outside")
    sentence = refused(out, "SELECT count(*) FROM photos")
    assert f"{within} is a symbolic link, and no file of a run is read through one" in sentence


def test_a_secret_that_is_linked_into_a_table_is_not_shown(example_run, tmp_path):
    """A file more in a folder of shards, by an absolute and by a relative link, is a row more to whoever follows it."""
    out, secret = tmp_path / "run", tmp_path / "secret.parquet"
    shutil.copytree(example_run, out, ignore=shutil.ignore_patterns("report"))
    pq.write_table(pa.table({"path": ["the secret"]}), secret)
    for target in (secret, Path("..") / ".." / secret.name):
        link = out / "photos" / "part-00001.parquet"
        link.symlink_to(target)
        assert link.exists()
        for output_format in ("table", "csv", "json"):
            result = call("query", out, "SELECT path FROM photos", "--format", output_format)
            assert result.code == 2
            assert "part-00001.parquet is a symbolic link" in result.sentence
            assert "the secret" not in result.out + result.err
        link.unlink()
    assert ask(out, "SELECT count(*) AS n FROM photos WHERE path = 'the secret'") == [{"n": 0}]


@pytest.mark.parametrize(
    "within",
    ["snapshots", "snapshots/2026-01-31", "snapshots/2026-01-31/faces", "snapshots/2026-02-01/manifest.json"]
    + [f"snapshots/2026-01-31/{name}/part-00000.parquet" for name in ("photos", "recommendations")],
)
def test_nothing_is_read_through_a_link_in_a_root_of_nights(nights, tmp_path, within):
    root = tmp_path / "root"
    shutil.copytree(nights, root)
    linked(root / within, tmp_path / "outside")
    assert f"{within} is a symbolic link" in refused(root, "SELECT count(*) FROM photos_history")


def test_out_itself_may_be_a_link(nights, example_run, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(nights, root)
    (root / "latest").symlink_to(Path("snapshots") / "2026-02-01")
    (tmp_path / "link").symlink_to(root)
    count = "SELECT count(*) AS n FROM faces"
    expected = ask(example_run, count)
    assert ask(root / "latest", count) == ask(tmp_path / "link", count) == ask(root, count) == expected
