import csv
import io
import json
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from program import command, environment, heed_interrupts

from stylematch.errors import UserError
from stylematch.tables.contract import TABLES, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.counts import count_tables
from stylematch.tables.manifest import Manifest, write_manifest
from stylematch.tables.query import run_query
from stylematch.tables.shards import shard_path
from stylematch.tables.views import open_views
from stylematch.tables.writer import ShardWriter

PHOTOS = 2500
NAMES = ['it\'s "<script>", \x1b[31m\n.jpg', "ö\u202e.jpg"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    # Glob characters, quotes and a blank in OUT's own name must not matter.
    out = tmp_path_factory.mktemp("a") / "it's [out] *?"
    paths = NAMES + [f"{i:05d}.jpg" for i in range(PHOTOS - len(NAMES))]
    for number in range(2):
        mine = paths[number::2]
        with ShardWriter(out / "photos", number, photos_schema()) as writer:
            nothing = {name: [None] * len(mine) for name in photos_schema().names}
            writer.write(
                nothing
                | {"path": mine, "bytes": [7] * len(mine), "faces": [1] * len(mine)}
                | {"status": ["scored"] * len(mine), "reason": ["ok"] * len(mine)}
            )
        schema = faces_schema(["Smiling"], 16)
        with ShardWriter(out / "faces", number, schema) as writer:
            columns = {f.name: ["x"] * len(mine) for f in schema if pa.types.is_string(f.type)}
            columns |= {f.name: np.zeros(len(mine)) for f in schema if pa.types.is_floating(f.type)}
            columns |= {
                "path": mine,
                "face": [0] * len(mine),
                "Smiling": np.full(len(mine), 0.25, np.float32),
            }
            writer.write(columns | {"embedding": np.ones((len(mine), 16), np.float32)})
        with ShardWriter(out / "recommendations", number, recommendations_schema()):
            pass
    now = datetime.now(UTC)
    write_manifest(out, Manifest("a" * 32, count_tables(out, {}), {}, "0", {}, {}, "cpu", now, now))
    return out


def ask(run: Path, sql: str, output_format="table") -> str:
    stream = io.StringIO(newline="")
    run_query(open_views(run), sql, output_format=output_format, stream=stream)
    return stream.getvalue()


def test_a_table_is_aligned_and_counted(run):
    assert ask(run, "SELECT status, count(*) AS n, NULL AS nothing, 1 = 1 AS yes FROM photos GROUP BY 1") == (
        "status  n     nothing  yes\n------  ----  -------  ----\nscored  2500  NULL     true\n-- 1 row\n"
    )
    assert ask(run, "FROM recommendations SELECT rank") == "rank\n----\n-- 0 rows\n"


def test_cells_are_one_printable_line(run):
    text = ask(run, "SELECT path FROM photos WHERE path NOT LIKE '0%' ORDER BY path")
    assert r"""it's "<script>", \x1b[31m\n.jpg""" in text
    assert r"ö\u202e.jpg" in text
    assert len(text.splitlines()) == 5


def test_long_lists_are_shortened_in_tables_only(run):
    sql = "SELECT embedding FROM faces LIMIT 1"
    assert "[1, 1, 1, 1, ... 16 values]" in ask(run, sql)
    assert json.loads(ask(run, sql, "json")) == [{"embedding": [1.0] * 16}]
    assert json.loads(list(csv.reader(io.StringIO(ask(run, sql, "csv"))))[1][0]) == [1.0] * 16


def test_embeddings_can_be_compared(run):
    sql = "SELECT array_cosine_similarity(a.embedding, b.embedding) s FROM faces a, faces b LIMIT 1"
    assert json.loads(ask(run, sql, "json")) == [{"s": 1.0}]


def test_long_answers_come_whole_in_every_format(run):
    sql = "SELECT path, repeat('x', (row_number() OVER (ORDER BY path)) // 500) AS x FROM photos ORDER BY path"
    lines = ask(run, sql).splitlines()
    assert lines[-1] == "-- 2,500 rows"
    assert len(lines) == PHOTOS + 3
    rows = list(csv.DictReader(io.StringIO(ask(run, sql, "csv"), newline="")))
    assert rows == json.loads(ask(run, sql, "json"))
    assert len(rows) == PHOTOS
    assert set(NAMES) < {row["path"] for row in rows}


def test_json_holds_what_json_can(run):
    sql = (
        "SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS a, 1.5::DECIMAL(5,2) AS d, DATE '2024-05-01' AS day, "
        "TIMESTAMP '2024-05-01 02:03:04' AS t, INTERVAL 1 DAY AS i, "
        "{'k': [1, NULL]} AS s, MAP {1: 'x'} AS m, "
        "'\\x00\\xFF'::BLOB AS b, 170141183460469231731687303715884105727::HUGEINT AS h, 'é' AS u"
    )
    assert json.loads(ask(run, sql, "json")) == [
        {
            "a": None,
            "a_2": None,
            "d": 1.5,
            "day": "2024-05-01",
            "t": "2024-05-01T02:03:04",
            "i": "1 day, 0:00:00",
            "s": {"k": [1, None]},
            "m": {"1": "x"},
            "b": "00ff",
            "h": 2**127 - 1,
            "u": "é",
        }
    ]
    header, row = csv.reader(io.StringIO(ask(run, sql, "csv"), newline=""))
    assert header[:2] == ["a", "a"]
    assert row[:4] == ["nan", "-inf", "1.50", "2024-05-01"]
    assert json.loads(ask(run, "FROM recommendations", "json")) == []


def test_csv_is_rfc_4180(run):
    text = ask(run, "SELECT path, NULL AS n, true AS t FROM photos WHERE path LIKE 'it%'", "csv")
    assert text == 'path,n,t\r\n"it\'s ""<script>"", \x1b[31m\n.jpg",,true\r\n'


@pytest.mark.parametrize(
    "sql",
    [
        "WITH f AS (SELECT * FROM faces) SELECT count(*) FROM f",
        "DESCRIBE photos",
        "SUMMARIZE faces",
        "SHOW TABLES",
        "VALUES (1), (2)",
        "SELECT 1;",
        "-- a remark\nSELECT 1",
        "PIVOT photos ON status IN ('scored') USING count(*)",
    ],
)
def test_what_reads_is_answered(run, sql):
    assert ask(run, sql).splitlines()[-1].startswith("-- ")


SECRET = "/etc/passwd"


@pytest.mark.parametrize(
    "sql",
    [
        "COPY photos TO 'FILE'",
        "COPY (SELECT 1) TO 'FILE'",
        "EXPORT DATABASE 'FILE'",
        "ATTACH 'FILE'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "INSERT INTO photos VALUES (1)",
        "UPDATE photos SET bytes = 1",
        "DELETE FROM photos",
        "DROP VIEW photos",
        "SET threads = 1",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA version",
        "CALL pragma_version()",
        "CHECKPOINT",
        "BEGIN TRANSACTION",
        "EXPLAIN ANALYZE COPY photos TO 'FILE'",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY photos TO 'FILE'",
        "",
        "-- only a remark",
        f"SELECT * FROM read_csv('{SECRET}')",
        f"SELECT * FROM read_text('{SECRET}')",
        f"SELECT * FROM read_blob('{SECRET}')",
        f"FROM '{SECRET}'",
        f"FROM sniff_csv('{SECRET}')",
        "FROM glob('/etc/*')",
        "FROM read_parquet('SHARD')",
        "FROM 'SHARD'",
        "FROM parquet_metadata('SHARD')",
        "FROM read_json('https://localhost/x.json')",
        "FROM enable_logging(storage = 'file', storage_path = 'FILE')",
        "FROM query('COPY photos TO ''FILE''')",
        "FROM import_database('/etc')",
        "WITH x AS (INSERT INTO photos VALUES (1) RETURNING *) FROM x",
        "SELECT getenv('HOME')",
        "FROM python_variable",
        "FROM PHOTOS_IN_THIS_MODULE",
        "SELECT nope FROM photos",
        "SELEKT 1",
        "SELECT $1",
        "SELECT now()",
        "SELECT [now()] AS x",
        "SELECT INTERVAL '100000000 years'",
        "EXPLAIN SELECT 1",
        "PIVOT photos ON status",
        "SELECT error('boom\n\n\x1b[31m')",
        "SELECT CAST(path AS INTEGER) FROM photos",
        "UPDATE EXTENSIONS",
        "SELECT '\udcff'",
    ],
)
def test_what_does_not_only_read_is_refused_in_one_line(run, tmp_path, monkeypatch, sql):
    python_variable = pa.table({"a": [1]})
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "written"
    sql = sql.replace("FILE", str(target)).replace("SHARD", str(shard_path(run / "photos", 0)).replace("'", "''"))
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    with pytest.raises(UserError) as caught:
        ask(run, sql)
    assert caught.value.exit_code == 2
    assert str(caught.value).isprintable()
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert list(tmp_path.iterdir()) == []
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before
    assert python_variable.num_rows == 1


PHOTOS_IN_THIS_MODULE = pa.table({"a": [1]})


def test_nothing_is_left_in_the_working_directory_or_the_temporary_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    ask(run, "SELECT * FROM faces ORDER BY path")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused(run, tmp_path):
    for path in (tmp_path, tmp_path / "absent", shard_path(run / "photos", 0)):
        with pytest.raises(UserError, match="is not a finished run"):
            ask(path, "SELECT 1")
    with pytest.raises(UserError, match="choose one of table, csv, json"):
        ask(run, "SELECT 1", "xml")
    (tmp_path / "manifest.json").write_bytes((run / "manifest.json").read_bytes())
    with pytest.raises(UserError, match="damaged: its table 'photos'"):
        ask(tmp_path, "SELECT 1")
    for table in TABLES:
        (tmp_path / table).mkdir()
        (tmp_path / table / "part-00000.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        ask(tmp_path, "SELECT 1")


@pytest.mark.parametrize(
    ("signal_number", "sql"),
    [
        (
            signal.SIGTERM,
            "SELECT count(*) FROM range(100000) a, range(1000000) b WHERE a.range * 7 % 11 = b.range % 13",
        ),
        (signal.SIGINT, "SELECT a.range FROM range(100000) a, range(1000000) b WHERE hash(a.range, b.range) = 0"),
    ],
)
def test_a_long_statement_is_ended_at_once(run, signal_number, sql):
    words = [*command("query", run, sql)]
    process = subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal_number)
    clock = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert time.monotonic() - clock < 20
    assert "Traceback" not in told


@pytest.mark.parametrize("output_format", ["csv", "json"])
def test_data_are_utf_8_whatever_the_terminal(example_run, output_format):
    select = "SELECT 'Żółć' AS a FROM photos LIMIT 1"
    done = subprocess.run(
        command("query", example_run, "--format", output_format, select),
        env=environment() | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Żółć" in done.stdout.decode("utf-8")
