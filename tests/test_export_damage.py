"""``export`` where something is damaged, denied or in the way: a night mends what is its own, and touches nothing else."""

import json
import shutil

import pytest
from program import call, table_digests
from test_export import FIRST, SECOND, first_night, folder, job_file, night, nothing_is_read  # noqa: F401  # fixtures


@pytest.mark.parametrize("damage", ["cut", "shard", "folder", "sidecars"])
def test_a_damaged_snapshot_is_made_again_by_its_night(folder, damage, nothing_is_read):  # noqa: F811
    snapshot = folder / "out" / "snapshots" / FIRST
    before, (shard,) = table_digests(snapshot), (snapshot / "faces").glob("*.parquet")
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:50])
    elif damage == "shard":
        shard.unlink()
    else:
        shutil.rmtree(snapshot / "faces" / ("_done" if damage == "sidecars" else ""))
    if damage != "sidecars":
        for run in (snapshot, folder / "out" / "latest"):
            assert f"export JOB.toml --date {FIRST}" in call("query", run, "SELECT count(*) FROM faces").sentence
    _, summary, result = night(folder, FIRST)
    assert ("nothing to do" in result.out, summary["changes"]["read"]) == (False, 0)
    assert table_digests(snapshot) == before
    assert "nothing to do" in night(folder, FIRST)[2].out


@pytest.mark.parametrize("manifest", ["garbage", None])
def test_a_snapshot_whose_manifest_is_damaged_is_made_again(folder, manifest):  # noqa: F811
    snapshot = folder / "out" / "snapshots" / FIRST
    before = table_digests(snapshot)
    (snapshot / "manifest.json").write_text(manifest) if manifest else (snapshot / "manifest.json").unlink()
    night(folder, FIRST)
    assert table_digests(snapshot) == before
    # What is not an export's is not touched.
    (snapshot / "manifest.json").write_text("garbage")
    (snapshot / "thesis.txt").write_text("mine")
    result = call("export", job_file(folder), "--date", FIRST)
    assert (result.code, "holds thesis.txt and no snapshot: move it away" in result.sentence) == (2, True)
    assert (snapshot / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "marker", ['{"some": "other tool"}', '{"tool": "stylematch", "layout": 2}', "garbage", "", "[1]"]
)
def test_a_marker_of_another_tool_claims_nothing(folder, marker):  # noqa: F811
    foreign = folder / "foo" / "snapshots" / "2025-01-01"
    foreign.mkdir(parents=True)
    (folder / "foo" / "export.json").write_text(marker)
    result = call("export", job_file(folder, out=f"{folder}/foo"), "--date", SECOND)
    assert (result.code, "an export.json of another tool" in result.sentence) == (2, True)
    assert foreign.is_dir()


def test_a_folder_that_no_export_made_is_never_retired(folder):  # noqa: F811
    snapshots = folder / "out" / "snapshots"
    kept = {"2025-01-01": "thesis.txt", "2025-01-02": "manifest.json", "2025-01-03": ""}
    for name, file in kept.items():
        (snapshots / name).mkdir()
        if file:
            (snapshots / name / "thesis.txt").write_text("mine")
            (snapshots / name / file).write_text(json.dumps({"some": "other tool"}))
    left = snapshots / "2025-01-04"  # of an upload that was cut off
    (left / "faces").mkdir(parents=True)
    night(folder, SECOND, keep_snapshots=1)
    assert {path.name for path in snapshots.iterdir()} == {*kept, SECOND}
