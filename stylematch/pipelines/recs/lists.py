"""The lists of a finished run, measured for ``evaluate-recs`` beside random and most-popular ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]
import pyarrow.dataset as ds

from stylematch.errors import StylematchError, UserError
from stylematch.evaluate.lists import list_figures, most_popular_lists, random_lists
from stylematch.evaluate.retrieval import mean_figures
from stylematch.pipelines.assets import resolve_assets
from stylematch.search.directory import load_index_directory
from stylematch.tables.manifest import read_manifest
from stylematch.tables.shown import shown

RECOMMENDED, RANDOM, POPULAR = "recommended", "random", "most popular"
_SEED = 0


@dataclass(frozen=True)
class Run:
    """A finished run and the catalogue that its items are from."""

    directory: Path
    items: Path
    wanted: int
    run_id: str


def open_run(directory: Path, indexes: Sequence[Path]) -> Run:
    """Find a run and its catalogue.

    Parameters
    ----------
    directory : pathlib.Path
        What ``score`` wrote.
    indexes : sequence of pathlib.Path
        What ``score`` was given as ``--index``.

    Raises
    ------
    UserError
        If it is no finished run, or was made with another catalogue.
    """
    manifest = read_manifest(directory)
    top_k = (manifest or {}).get("settings", {}).get("top_k")
    if manifest is None or top_k is None:
        raise UserError(f"--run {shown(directory)} is no finished run; name a directory that 'score' wrote.")
    assets = resolve_assets(indexes)
    if manifest.get("sha256", {}).get("items") != assets.items.sha256:
        raise UserError(
            f"--run {shown(directory)} was not made with the catalogue {shown(assets.items.directory)}; name the one "
            "that it was made with by --index, as for 'score'."
        )
    return Run(directory, assets.items.directory, int(top_k), str(manifest["run_id"]))


def measure_lists(run: Run) -> dict[str, Any]:
    """Return the part ``lists`` of the report.

    Raises
    ------
    UserError
        If an item is not in the catalogue.
    StylematchError
        If the tables do not belong together.
    """
    index = load_index_directory(run.items).index
    photos = _read(run, "photos", ["path", "status"])
    faces = _read(run, "faces", ["path", "face"])
    items = _read(run, "recommendations", ["path", "face", "rank", "item_id"])
    items["position"] = index.positions_of(items["item_id"].tolist())
    if (lost := items["item_id"][items["position"] < 0]).size:
        raise UserError(
            f"{lost.nunique():,} of the items that {shown(run.directory)} recommends are not in {shown(run.items)}, "
            f"such as {shown(lost.iloc[0])}; name the run's own catalogue by --index."
        )
    faces["person"] = np.arange(len(faces))
    photos["photo"] = np.arange(len(photos))
    faces = faces.merge(photos, "left", "path")
    items = items.merge(faces, "left", ["path", "face"])
    if faces["photo"].isna().any() or items["person"].isna().any():
        raise StylematchError(f"the tables of {shown(run.directory)} do not belong together; score the photos again")
    lists = _lists(items, len(faces))
    photo = np.unique(faces["photo"].to_numpy(np.int64), return_inverse=True)[1]
    compared = {
        RECOMMENDED: lists,
        RANDOM: random_lists(len(lists), run.wanted, len(index), _SEED),
        POPULAR: most_popular_lists(lists, run.wanted, len(index)),
    }
    rows: dict[str, Any] = {}
    for name, some in compared.items():
        rows[name] = list_figures(some, len(index), index.vectors, wanted=run.wanted, photo=photo)
    served = photos["photo"].isin(items["photo"]).to_numpy()
    return {
        "run_id": run.run_id,
        "people": len(lists),
        "photos": len(photos),
        "wanted": run.wanted,
        "catalogue": len(index),
        "photos_without_any": mean_figures({"share": (~served).astype(np.float64)})["share"],
        "photos_without_any_by_status": {
            str(status): int(count) for status, count in photos["status"][~served].value_counts().sort_index().items()
        },
        "rows": rows,
    }


def _lists(items: pd.DataFrame, people: int) -> npt.NDArray[np.int64]:
    items = items.sort_values(["person", "rank"], kind="stable")
    place = items.groupby("person").cumcount().to_numpy(np.int64)
    lists = np.full((people, int(place.max(initial=-1)) + 1), -1, np.int64)
    lists[items["person"].to_numpy(np.int64), place] = items["position"].to_numpy(np.int64)
    return lists


def _read(run: Run, name: str, columns: list[str]) -> pd.DataFrame:
    return ds.dataset(run.directory / name, format="parquet").to_table(columns=columns).to_pandas()
