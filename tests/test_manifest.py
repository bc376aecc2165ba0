import json
import re
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylematch import __version__
from stylematch.tables.contract import TABLES, faces_schema, photos_schema, recommendations_schema
from stylematch.tables.counts import Counts, count_tables
from stylematch.tables.environment import PACKAGES, code_version, widest_vectors
from stylematch.tables.manifest import Manifest, Stage, compute_run_id, read_manifest, write_manifest
from stylematch.tables.writer import ShardWriter

PARTS = {
    "inputs": "i",
    "settings": {"top_k": 5, "seed": 0},
    "bundles": "b",
    "index": "x",
    "rules": "r",
    "code": "c",
}
JSON_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


def example(**changes) -> Manifest:
    started = datetime(2024, 5, 1, 2, 0, 0, tzinfo=UTC)
    fields = {
        "run_id": "f" * 32,
        "counts": Counts(10, 7, 2, 1, 9, 45, {"ok": 7, "no_face_found": 2, "corrupt": 1}, {"other extension": 3}),
        "stages": {"score": Stage(2.0, 10, "photos", per_worker=True), "find": Stage(0.0, 10, "files")},
        "code_version": code_version(),
        "sha256": {"rules": "0" * 64},
        "settings": {"top_k": 5},
        "device": "cpu",
        "started": started,
        "finished": started + timedelta(seconds=4.5),
    }
    return Manifest(**(fields | changes))


def test_manifest_round_trip(tmp_path):
    (tmp_path / "photos").mkdir()
    write_manifest(tmp_path, example())
    text = (tmp_path / "manifest.json").read_text()
    content = read_manifest(tmp_path)
    assert text == json.dumps(content, sort_keys=True, indent=2) + "\n"
    assert content["tool"] == "stylematch"
    assert content["outputs"] == ["manifest.json", "photos"]
    assert content["counts"]["reasons"]["corrupt"] == 1
    assert content["counts"]["ignored"] == {"other extension": 3}
    assert content["stages"]["score"] == {
        "items": 10,
        "per_second": 5.0,
        "per_worker": True,
        "seconds": 2.0,
        "unit": "photos",
        "whole": False,
    }
    assert content["stages"]["find"]["per_second"] is None
    assert (content["started"], content["finished"]) == (
        "2024-05-01T02:00:00+00:00",
        "2024-05-01T02:00:04+00:00",
    )
    assert content["seconds"] == 4.5
    assert content["packages"]["pyarrow"] != "absent"
    assert content["host"]["cores"] >= 1
    assert "vectors" in content["host"]


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [(name, f"{name[:-2]}~{name[-1]}") for name in ('"sha256"', '"counts"', '"settings"', '"outputs"', '"packages"')]
    + [('"found": 10', '"found": "10"'), ('"no_face"', '"no_fade"'), ('"run_id": "', '"run_id": 3, "x": "')],
)
def test_a_manifest_that_lacks_what_is_read_of_it_is_damaged(tmp_path, whole, damaged):
    write_manifest(tmp_path, example())
    assert read_manifest(tmp_path) is not None
    path = tmp_path / "manifest.json"
    text = path.read_text()
    assert whole in text
    path.write_text(text.replace(whole, damaged, 1))
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, "{", '{"tool": "other", "run_id": "x"}', '{"tool": "stylematch"}', "\xff"]
)
def test_other_manifests_are_not_ours(tmp_path, text):
    assert read_manifest(tmp_path) is None
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    assert read_manifest(tmp_path) is None


def test_packages_are_the_runtime_dependencies(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert sorted(PACKAGES) == sorted(re.match(r"[\w-]+", d).group() for d in project["dependencies"])


def test_run_id_is_stable_and_short():
    assert compute_run_id(**PARTS) == "0a3134b238f2b7faf9527a72ad9b9bd2"
    assert compute_run_id(**PARTS | {"settings": {"seed": 0, "top_k": 5}}) == compute_run_id(**PARTS)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_run_id_follows_every_part(part):
    other = {"top_k": 6, "seed": 0} if part == "settings" else "other"
    assert compute_run_id(**PARTS | {part: other}) != compute_run_id(**PARTS)


@settings(max_examples=40)
@given(one=st.dictionaries(st.text(), JSON_VALUES), two=st.dictionaries(st.text(), JSON_VALUES))
def test_run_ids_differ_where_settings_do(one, two):
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (compute_run_id(**PARTS | {"settings": one}) == compute_run_id(**PARTS | {"settings": two})) == same


def test_run_id_refuses_what_has_no_canonical_form():
    with pytest.raises(ValueError, match="JSON"):
        compute_run_id(**PARTS | {"settings": {"x": float("nan")}})
    with pytest.raises(TypeError):
        compute_run_id(**PARTS | {"settings": {"x": object()}})


def test_code_version_names_the_release_and_the_sources():
    assert re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{12}", code_version())


def test_counts_are_those_of_the_tables(tmp_path):
    schemas = [photos_schema(), faces_schema([], 2), recommendations_schema()]
    statuses = [("scored", "ok"), ("scored", "ok"), ("no_face", "no_face_found"), ("rejected", "corrupt")]
    for table, schema in zip(TABLES, schemas, strict=True):
        for number in range(2):
            with ShardWriter(tmp_path / table, number, schema) as writer:
                if table == "photos":
                    rows = statuses[number * 2 : number * 2 + 2]
                    nothing = {name: [None] * 2 for name in schema.names}
                    writer.write(
                        nothing
                        | {"path": ["a", "b"], "bytes": [1, 2], "faces": [0, 0]}
                        | {"status": [s for s, _ in rows], "reason": [r for _, r in rows]}
                    )
    counts = count_tables(tmp_path, {"link": 2})
    assert counts == Counts(4, 2, 1, 1, 0, 0, {"ok": 2, "no_face_found": 1, "corrupt": 1}, {"link": 2})


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("flags\t\t: fpu sse4_2 avx f16c avx2 avx512f avx512_vnni avx512_bf16 amx", "avx512_bf16"),
        ("flags\t\t: fpu avx2 avx\nbugs\t\t: avx512f", "avx2"),
        ("flags\t\t: fpu sse4_2 avxnot", None),
        ("Features\t: fp asimd", None),
        ("", None),
    ],
)
def test_a_processor_is_told_by_its_vectors(flags, told):
    assert widest_vectors(f"model name\t: X\n{flags}\n") == told
