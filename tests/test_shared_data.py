"""The whole program on the real data."""

import os
from collections import Counter

import pytest
from program import call, manifest, score, table, table_digests

pytestmark = pytest.mark.shared_data
COUNTS = {
    "Casual": 130_604,
    "Formal": 42_508,
    "Glamorous Female": 24_663,
    "Sunny Chic Female": 3_613,
    "Intellectual Chic Male": 651,
    "Sunny Chic Male": 262,
    "Rugged Casual Male": 206,
    "Intellectual Chic Female": 62,
    "Glamorous Male": 19,
    "Dapper Male": 11,
    "Rugged Casual Female": 0,
    "Dapper Female": 0,
}


def test_rules_apply_counts_all_of_celeba(shared_data):
    result = call("rules", "apply", shared_data / "celeba" / "labels_full.parquet", "--rules", "classic")
    assert (result.code, result.err) == (0, "")
    assert [tuple(line.split("\t")) for line in result.out.splitlines()] == [
        (style, str(count)) for style, count in COUNTS.items()
    ]


@pytest.mark.slow
def test_the_wild_photos_are_scored(shared_data, tmp_path):
    photos = shared_data / "photos"
    others = [path for path in photos.iterdir() if path.suffix != ".jpg"]
    result = score(photos, tmp_path / "out", "--workers", 0)
    assert result.code == 0, result.err
    counts = manifest(tmp_path / "out")["counts"]
    assert counts["found"] == table(tmp_path / "out", "photos").num_rows == 600
    assert counts["ignored"] == {"not_a_picture": len(others)}
    assert counts["scored"] >= 590
    assert counts["scored"] + counts["no_face"] + counts["rejected"] == 600
    items = table(tmp_path / "out", "recommendations")
    ranks = Counter(zip(items["path"].to_pylist(), items["face"].to_pylist(), strict=True))
    assert len(ranks) == counts["faces"]
    assert set(ranks.values()) == {5}

    again = score(photos, tmp_path / "again", "--workers", os.cpu_count() + 1, "--batch-size", 5)
    assert again.code == 0, again.err
    assert table_digests(tmp_path / "again") == table_digests(tmp_path / "out")
