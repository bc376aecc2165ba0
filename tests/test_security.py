"""What somebody else's files may do to whoever runs this: nothing."""

import ast
import os
import shutil
import struct
import tempfile
from html.parser import HTMLParser

import numpy as np
import pytest
from bfloat16 import EITHER_PRECISION
from conftest import REPOSITORY
from hostile import png_claiming
from program import DEFAULT_INDEX, EXAMPLES, call, manifest, rows, score, scored
from test_query import SECRET

from stylematch.data.decode import decode_photo
from stylematch.errors import PhotoRejectedError, UserError
from stylematch.pipelines.assets import resolve_assets
from stylematch.tables.closed_duckdb import closed_connection
from stylematch.tables.contract import Reason
from stylematch.tables.views import open_views
from stylematch.vision.bundle import DESCRIPTION, GRAPH, WEIGHTS, Bundle
from stylematch.vision.runtime import CpuRuntime

SOURCES = sorted((REPOSITORY / "stylematch").rglob("*.py"))

# Models


def calls_of(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}, node


def test_nothing_in_the_package_reads_a_pickle():
    forbidden = {
        "eval",
        "exec",
        "compile",
        "__import__",
        "pickle.load",
        "pickle.Unpickler",
        "marshal.loads",
        "yaml.load",
    }
    seen_torch_load = 0
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]
        }
        # The one place where pickles are: the engine's own pipes, between a process and the children that it started.
        in_engine = path.parent.name == "engines"
        unwanted = {"dill", "joblib", "cloudpickle", "shelve", "marshal"} | (set() if in_engine else {"pickle"})
        assert not imported & unwanted, path
        for name, keywords, node in calls_of(tree):
            assert name not in forbidden, f"{path}:{node.lineno}"
            if name == "torch.load":
                seen_torch_load += 1
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"
            if name in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle") == "False", f"{path}:{node.lineno}"
            if name == "pickle.loads":
                assert [ast.unparse(argument) for argument in node.args] == ["pickle.dumps(error)"], path
            assert keywords.get("shell") != "True", f"{path}:{node.lineno}"
            assert name != "os.system", f"{path}:{node.lineno}"
    assert seen_torch_load, "the test looks for a name that is used no more"


@pytest.fixture
def collection(tmp_path):
    return shutil.copytree(DEFAULT_INDEX, tmp_path / "collection")


def test_the_manifest_names_both_models_by_their_digests(example_run):
    named = manifest(example_run)["sha256"]
    assert named["bundle"] == Bundle.open(DEFAULT_INDEX / "attributes").sha256
    assert named["garments"] == Bundle.open(DEFAULT_INDEX / "garments").sha256


@pytest.mark.parametrize("model", ["attributes", "garments"])
@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, DESCRIPTION])
def test_a_changed_byte_of_a_model_is_another_model_and_refused(collection, model, name):
    before = Bundle.open(collection / model).sha256
    path = collection / model / name
    data = bytearray(path.read_bytes())
    if name == DESCRIPTION:
        data += b"\n"
    else:
        data[-5] ^= 1
    path.write_bytes(data)
    assert Bundle.open(collection / model).sha256 != before
    with pytest.raises(UserError, match="was not made by the model"):
        resolve_assets([collection])


@pytest.mark.parametrize("bfloat16", EITHER_PRECISION)
def test_a_graph_takes_weights_from_its_own_bundle_only(collection, tmp_path, bfloat16):
    bundle = collection / "garments"
    graph = (bundle / GRAPH).read_bytes()
    for elsewhere in (tmp_path / "collection" / "xy", bundle / "other.safetensors.x"):
        shutil.copy(bundle / WEIGHTS, elsewhere)
    outside = b"../././././././././xy"[: len(WEIGHTS) - 2] + b"xy"
    for location in (b"../" + b"./" * 7 + b"xy", b"../" + b"x" * 16, outside):
        assert len(location) == len(WEIGHTS)  # so that no length in the graph changes
        (bundle / GRAPH).write_bytes(graph.replace(WEIGHTS.encode(), location))
        (bundle / "other.safetensors.x").unlink(missing_ok=True)
        with pytest.raises(UserError, match="is damaged"):
            CpuRuntime(Bundle.open(bundle), bfloat16=bfloat16)
    # A second file in the bundle would be read, and would not count in the digest.
    shutil.copy(bundle / WEIGHTS, bundle / "others.safetensors1")
    (bundle / GRAPH).write_bytes(graph.replace(WEIGHTS.encode(), b"others.safetensors1"))
    with pytest.raises(UserError, match=r"others.safetensors1.*no part of a model bundle"):
        Bundle.open(bundle)


@pytest.mark.parametrize("bfloat16", EITHER_PRECISION)
def test_a_pickle_in_place_of_weights_is_no_model(collection, bfloat16):
    (collection / "attributes" / GRAPH).write_bytes(b"\x80\x04cposix\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(UserError, match="is damaged"):
        CpuRuntime(Bundle.open(collection / "attributes"), bfloat16=bfloat16)


def test_an_array_of_objects_is_no_index(tmp_path):
    from stylematch.search.files import read_array, write_array

    path = tmp_path / "labels.npy"
    write_array(path, np.arange(3))
    assert list(read_array(path, (3,), np.int64, mapped=False)) == [0, 1, 2]
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_array(path, (1,), object, mapped=False)


# Paths


def test_photos_do_not_lead_out_of_their_folder(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(EXAMPLES / "astronaut.jpg", secret / "hidden.jpg")
    root = tmp_path / "photos"
    root.mkdir()
    shutil.copy(EXAMPLES / "coffee.jpg", root / "own.jpg")
    (root / "relative.jpg").symlink_to("../secret/hidden.jpg")
    (root / "absolute.jpg").symlink_to(secret / "hidden.jpg")
    (root / "folder").symlink_to(secret, target_is_directory=True)
    (root / "up").symlink_to("../..", target_is_directory=True)
    out = scored(root, tmp_path / "out")
    assert [row["path"] for row in rows(out, "photos")] == ["own.jpg"]
    assert manifest(out)["counts"]["ignored"] == {"link": 4}
    (root / "up").unlink()
    allowed = scored(root, tmp_path / "allowed", "--follow-links")
    assert {row["path"] for row in rows(allowed, "photos")} == {
        "absolute.jpg",
        "folder/hidden.jpg",
        "own.jpg",
        "relative.jpg",
    }


# (What a catalogue's paths may name is in test_catalog_build.)


# Bombs


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (20_000, 10_001)])
def test_a_bomb_is_refused_by_its_header(width, height):
    with pytest.raises(PhotoRejectedError) as rejected:
        decode_photo(png_claiming(width, height), max_side_px=640, max_megapixels=200)
    assert rejected.value.reason == Reason.TOO_LARGE
    assert (rejected.value.width, rejected.value.height) == (width, height)


def test_a_size_that_no_column_holds_is_a_row_all_the_same(tmp_path):
    bomb = bytearray(png_claiming(1, 1))
    struct.pack_into(">II", bomb, 16, 2**31 + 200, 5)
    bitmap = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, -5, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(bomb)
    (tmp_path / "photos" / "b.bmp").write_bytes(bitmap)
    out = scored(tmp_path / "photos", tmp_path / "out")
    assert [row["status"] for row in rows(out, "photos")] == ["rejected"] * 2


def test_a_file_of_a_terabyte_is_not_read(tmp_path):
    (tmp_path / "photos").mkdir()
    large = tmp_path / "photos" / "large.jpg"
    with large.open("wb") as sparse:
        sparse.write((EXAMPLES / "astronaut.jpg").read_bytes())
        try:
            sparse.truncate(1 << 40)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    out = scored(tmp_path / "photos", tmp_path / "out")
    (row,) = rows(out, "photos")
    assert (row["reason"], row["photo_id"], row["bytes"]) == (Reason.FILE_TOO_LARGE, None, 1 << 40)
    os.truncate(large, (1 << 40) + 1)  # another size is another row, so it is another run
    assert "Nothing to do" not in score(tmp_path / "photos", tmp_path / "out").out


# The gallery


class _Policy(HTMLParser):
    content = ""

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            self.content = given["content"]


def test_the_gallery_has_a_strict_policy(example_run):
    policy = _Policy()
    policy.feed((example_run / "report" / "index.html").read_text("utf-8"))
    directives = dict(part.split(maxsplit=1) for part in policy.content.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["base-uri"] == directives["form-action"] == "'none'"
    for sources in directives.values():
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:", "blob:", "http:", "https:"} & set(sources.split())


# Queries (what SQL is refused in so many words is in test_query)


def test_no_function_of_duckdb_reads_or_writes_a_file(example_run, tmp_path, monkeypatch):
    """Every function that takes a text is given a path: those that this DuckDB has, not only those that we know."""
    import duckdb

    monkeypatch.chdir(tmp_path)
    shard = next((example_run / "faces").glob("*.parquet"))
    answered, refused = set(), set()
    with (
        tempfile.TemporaryDirectory() as spill,
        closed_connection(open_views(example_run).tables, temp_directory=spill) as connection,
    ):
        functions = connection.execute(
            "SELECT DISTINCT function_name, function_type FROM duckdb_functions() WHERE "
            "function_name SIMILAR TO '[a-z_0-9]+' AND (function_type LIKE 'table%' OR 'VARCHAR' IN parameter_types)"
        ).fetchall()
        for name, kind in functions:
            for path in (SECRET, tmp_path / "written", shard):
                quoted = str(path).replace("'", "''")
                statement = f"FROM {name}('{quoted}')" if kind.startswith("table") else f"SELECT {name}('{quoted}')"
                try:
                    answer = repr(connection.execute(statement).fetchmany(5))
                except duckdb.Error:
                    refused.add(name)
                    continue
                answered.add(name)
                assert "root:" not in answer, statement
                assert "PAR1" not in answer, statement
                assert list(tmp_path.iterdir()) == [], statement
    assert len(answered) > 20
    assert {"read_text", "read_csv", "read_parquet", "parquet_metadata", "glob"} <= refused - answered


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv_auto('/etc/passwd')",
        "SELECT * FROM parquet_scan('/etc/*.parquet')",
        "SELECT content FROM read_text(['/etc/passwd', '/etc/hosts'])",
        "FROM 'file:///etc/passwd'",
        'FROM "/etc/passwd"',
        "FROM '../../etc/passwd'",
        "FROM 's3://bucket/x.parquet'",
        "DETACH DATABASE memory",
        "USE memory",
        "VACUUM",
        "CREATE SECRET s (TYPE S3)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE MACRO m() AS 1",
        "FORCE INSTALL httpfs FROM 'https://localhost'",
        "LOAD '/tmp/evil.duckdb_extension'",
        "SET allowed_directories = ['/']",
        "SET GLOBAL lock_configuration = false",
        "PRAGMA enable_external_access",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "IMPORT DATABASE '/etc'",
        "SET VARIABLE x = (SELECT content FROM read_text('/etc/passwd'))",
        "SELECT 1;;SELECT 2",
        "SELECT 1 -- \n; COPY photos TO '/tmp/x'",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
        "WITH x AS MATERIALIZED (FROM glob('/*')) FROM x",
        "SELECT * FROM photos WHERE path IN (SELECT file FROM glob('/etc/*'))",
        "SELECT getenv('PATH')",
    ],
)
def test_no_statement_leaves_the_tables(example_run, tmp_path, sql):
    before = {path: path.stat().st_mtime_ns for path in example_run.rglob("*")}
    answer = call("query", example_run, sql)
    assert answer.code == 2
    assert answer.sentence.isprintable()
    assert "root:" not in answer.out + answer.err
    assert {path: path.stat().st_mtime_ns for path in example_run.rglob("*")} == before
