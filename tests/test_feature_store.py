"""Kept features come back as they went in, whatever is asked for in whatever order; drift against its definition."""

import io
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program import environment
from pyarrow import fs

from stylematch.pipelines.face_features import FaceFeatures
from stylematch.pipelines.nights.drift import population_stability_index, style_drift
from stylematch.pipelines.nights.export_summary import style_mix
from stylematch.pipelines.nights.feature_footers import Footers
from stylematch.pipelines.nights.feature_plan import FeaturePlan
from stylematch.pipelines.nights.feature_reader import FeatureReader, face_features
from stylematch.pipelines.nights.feature_store import BOX, ROW_GROUP_ROWS, FeatureDraft, FeatureStore
from stylematch.pipelines.nights.night_lists import write_found
from stylematch.tables.contract import LANDMARKS
from stylematch.tables.place import Place, place_of


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


@settings(max_examples=25)
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


class CountedFooters(fs.FileSystemHandler):
    """A disk that is only read, and that counts by file how often its end was: there a Parquet file has its footer."""

    def __init__(self) -> None:
        self.disk, self.footers = fs.LocalFileSystem(), Counter()

    def get_type_name(self):
        return "counted"

    def normalize_path(self, path):
        return path

    def get_file_info(self, paths):
        return self.disk.get_file_info(paths)

    def get_file_info_selector(self, selector):
        return self.disk.get_file_info(selector)

    def open_input_file(self, path):
        footers, file = self.footers, Path(path)

        class Recorded(io.FileIO):
            def read(self, size=-1):
                start, end = self.tell(), file.stat().st_size
                if start < end and (size < 0 or start + size >= end):
                    footers[f"{file.parent.name}/{file.name}"] += 1
                return super().read(size)

        return pa.PythonFile(Recorded(path), mode="r")

    def _never(self, *_):
        raise AssertionError("the store is only read")

    open_input_stream = open_output_stream = open_append_stream = copy_file = move = create_dir = _never
    delete_file = delete_dir = delete_dir_contents = delete_root_dir_contents = _never


def test_a_night_reads_every_footer_once(tmp_path):
    """Though it plans twice: what is to be read, and then where all features stand."""
    out, counted = tmp_path / "out", CountedFooters()
    written = FeatureStore(place_of(str(out), "out"), "0" * 64, ("A", "B"), 4, 3)

    def add(name: str, photo_id: str) -> None:
        (tmp_path / name).mkdir()
        with FeatureDraft(written, name, tmp_path / name) as draft:
            draft.add(photo_rows([photo_id], [1]), features_of(1, 1, np.random.default_rng(1)), {})
        draft.publish()

    for number in range(3):
        add(f"s{number}", f"{number:032x}")
    damaged = out / written.folder / "faces" / "s2.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    place = Place("counted")
    place.__dict__["_remote"] = (fs.PyFileSystem(counted), str(out))
    store = replace(written, place=place)
    found, _ = write_found(iter([]), tmp_path, lambda _: None)
    footers, plans = Footers(place), []
    for night in range(2):
        with FeaturePlan(store, footers, found, tmp_path, thumbnails=False, max_bytes=1) as plan:
            plans.append((plan.rows_of_shards(), plan.damaged_shards()))
            plan.write_known_ids(tmp_path / "known")
        if night == 0:
            add("s3", f"{3:032x}")
    read = {f"{table}/s{number}.parquet": 1 for table in ("photos", "faces") for number in range(4)}
    assert counted.footers == read
    assert plans == [
        ({"s0.parquet": 1, "s1.parquet": 1}, ["s2.parquet"]),
        ({"s0.parquet": 1, "s1.parquet": 1, "s3.parquet": 1}, ["s2.parquet"]),
    ]


def _modules_loaded_by(module):
    """Return what of this package importing a module loads, without the package's own name and its folders."""
    code = f"import {module}, sys; print(*(n for n, m in sys.modules.items() if not hasattr(m, '__path__')))"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    return {name.removeprefix("stylematch.") for name in loaded.stdout.split() if name.startswith("stylematch.")}


_WITHOUT_A_SAY = ("errors", "settings.", "tables.", "engines.", "pipelines.partition_result")
# They name files; what a file shows does not follow from them.
_LISTING = {"data.directories", "data.listing", "data.readers"}


@pytest.mark.parametrize(
    "module",
    [
        "pipelines.face_features",
        "data.looks",
        pytest.param("vision.stored_network", marks=pytest.mark.train),  # on a GPU
    ],
)
def test_the_fingerprint_covers_the_code_that_makes_features(module):
    """What a feature is made by is in the fingerprint, or has no say in it."""
    from stylematch.pipelines.nights.feature_store import SOURCES

    told = {name.removesuffix(".py").replace("/", ".") for name in SOURCES}
    loaded = _modules_loaded_by(f"stylematch.{module}")
    assert module in loaded
    assert [m for m in sorted(loaded - told - _LISTING) if not m.startswith(_WITHOUT_A_SAY)] == []


def test_the_fingerprint_names_modules_that_are_there():
    """A module that was renamed would be left out of the digest, and no change of it noticed."""
    import stylematch
    from stylematch.pipelines.nights.feature_store import SOURCES

    root = Path(stylematch.__file__).parent
    assert [name for name in SOURCES if not (root / name).is_file()] == []
    assert len(set(SOURCES)) == len(SOURCES)


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


def test_a_style_that_is_given_up_is_named_once_more_and_then_no_longer():
    mix = style_mix({"old": 3}, {"new": 3})
    assert (list(mix), mix["old"]["share"], mix["old"]["share_before"]) == (["new", "old"], 0.0, 1.0)
    assert list(style_mix({style: part["faces"] for style, part in mix.items()}, {"new": 4})) == ["new"]
