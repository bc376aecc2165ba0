"""Kept features come back as they went in, whatever is asked for in whatever order; drift against its definition."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program import environment

from stylematch.pipelines.drift import population_stability_index, style_drift
from stylematch.pipelines.face_features import FaceFeatures
from stylematch.pipelines.feature_reader import FeatureReader, face_features
from stylematch.pipelines.feature_store import BOX, ROW_GROUP_ROWS, FeatureDraft, FeatureStore
from stylematch.tables.contract import LANDMARKS
from stylematch.tables.place import place_of


def features_of(photo: int, faces: int, rng) -> FaceFeatures:
    columns = {"path": ["p"] * faces, "photo_id": [f"{photo:032x}"] * faces, "face": list(range(faces))}
    columns |= {name: list(rng.random(faces, np.float32)) for name in (*BOX, *LANDMARKS, "A", "B")}
    attributes = np.stack([columns["A"], columns["B"]], axis=1).reshape(faces, 2).astype(np.float32)
    worn = [rng.random(3, np.float32) if rng.random() < 0.5 else None for _ in range(faces)]
    return FaceFeatures(columns, attributes, rng.random((faces, 4), np.float32), worn)


def joined(parts: list[FaceFeatures]) -> FaceFeatures:
    parts = [part for part in parts if len(part)]
    if not parts:
        return FaceFeatures()
    columns = {name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns}
    arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in ("attributes", "embedding"))
    return FaceFeatures(columns, *arrays, [vector for part in parts for vector in part.worn])


@settings(max_examples=25, deadline=None)
@given(
    shards=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=3),
    batch=st.integers(1, 4),
    data=st.data(),
)
def test_any_photos_in_any_order(tmp_path_factory, shards, batch, data):
    folder, rng = tmp_path_factory.mktemp("store"), np.random.default_rng(7)
    store = FeatureStore(place_of(str(folder / "out"), "out"), "0" * 64, ("A", "B"), 4, 3)
    kept, where = [], []
    for number, counts in enumerate(shards):
        scratch = folder / str(number)
        scratch.mkdir()
        photos = [features_of(100 * number + row, count, rng) for row, count in enumerate(counts)]
        with FeatureDraft(store, f"s{number}", scratch) as draft:
            for start in range(0, len(photos), batch):
                part = counts[start : start + batch]
                ids = [f"{100 * number + row:032x}" for row in range(start, start + len(part))]
                draft.add(photo_rows(ids, part), joined(photos[start : start + batch]), {ids[0]: b"thumb"})
        assert store.shards() == [f"s{n}.parquet" for n in range(number)]
        draft.publish()
        kept += photos
        where += [(f"s{number}.parquet", row) for row in range(len(counts))]
    order = data.draw(st.lists(st.integers(0, len(where) - 1), max_size=12))
    taken = FeatureReader(store, thumbnails=True).take([where[place] for place in order])
    wanted = joined([kept[place] for place in order])
    found = face_features(store, taken.faces, ["p"] * len(wanted))
    assert found.columns == wanted.columns
    assert np.array_equal(found.attributes, wanted.attributes)
    assert np.array_equal(found.embedding, wanted.embedding)
    for one, other in zip(found.worn, wanted.worn, strict=True):
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)
    assert taken.photos.column("row").to_pylist() == [where[place][1] for place in order]


def photo_rows(ids: list[str], faces: list[int]) -> dict[str, list]:
    same = {"width": 1, "height": 2, "format": "JPEG", "status": "scored", "reason": "ok", "message": None}
    return {"photo_id": ids, "faces": faces, **{name: [value] * len(ids) for name, value in same.items()}}


def test_rows_beyond_the_first_row_group(tmp_path):
    store = FeatureStore(place_of(str(tmp_path / "out"), "out"), "0" * 64, ("A", "B"), 4, 3)
    count, rng = 2 * ROW_GROUP_ROWS + 5, np.random.default_rng(1)
    (tmp_path / "s").mkdir()
    with FeatureDraft(store, "s", tmp_path / "s") as draft:
        for row in range(count):
            draft.add(photo_rows([f"{row:032x}"], [1]), features_of(row, 1, rng), {})
    draft.publish()
    rows = [count - 1, 0, ROW_GROUP_ROWS, ROW_GROUP_ROWS - 1, 2 * ROW_GROUP_ROWS]
    taken = FeatureReader(store).take([("s.parquet", row) for row in rows])
    assert taken.photos.column("photo_id").to_pylist() == [f"{row:032x}" for row in rows]
    assert taken.faces.column("photo_id").to_pylist() == [f"{row:032x}" for row in rows]


def test_the_fingerprint_covers_the_code_that_makes_features():
    """What ``face_features`` imports is in the fingerprint, or has no say in a feature."""
    from stylematch.pipelines.feature_store import SOURCES

    told = [name.removesuffix(".py").replace("/", ".") for name in SOURCES]
    no_say = ("errors", "settings", "tables", "engines", "search", "report", "pipelines.assets", "pipelines.partitions")
    code = "import stylematch.pipelines.face_features, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    for name in (m.removeprefix("stylematch.") for m in loaded.stdout.split() if m.startswith("stylematch.")):
        assert name == "pipelines" or any(name == t or name.startswith(f"{t}.") for t in (*told, *no_say)), name


COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 1000), min_size=1).filter(lambda c: sum(c.values()))


@given(before=COUNTS, now=COUNTS)
def test_the_index_is_symmetric_and_never_negative(before, now):
    index = population_stability_index(before, now)
    assert index >= 0
    assert math.isclose(index, population_stability_index(now, before), abs_tol=1e-12)
    assert population_stability_index(before, before) == 0


def test_the_index_by_hand():
    # Shares 0.5, 0.5 and 0.8, 0.2: 0.3 ln 1.6 + (-0.3) ln 0.4.
    wanted = 0.3 * math.log(1.6) - 0.3 * math.log(0.4)
    assert population_stability_index({"a": 50, "b": 50}, {"a": 80, "b": 20}) == pytest.approx(wanted)
    drift = style_drift({"a": 50, "b": 50}, {"a": 80, "b": 20}, "2026-01-01")
    assert (drift.level, drift.by_chance) == ("large", pytest.approx(0.02))
    assert style_drift({"a": 50, "b": 50}, {"a": 60, "b": 40}, "").level == "none"
    assert math.isfinite(population_stability_index({"a": 50}, {"b": 50}))
    assert style_drift({}, {"a": 0}, "") is None
    for before, now in (({}, {"a": 1}), ({"a": 1}, {})):
        drift = style_drift(before, now, "")
        assert (drift.psi, drift.level) == (None, "large")
