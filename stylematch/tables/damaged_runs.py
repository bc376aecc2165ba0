"""Runs whose manifests are damaged or missing, so that they count as none: which they are, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stylematch.tables.manifest import MANIFEST, read_manifest
from stylematch.tables.night_names import SNAPSHOTS, night_of
from stylematch.tables.shards import shard_paths
from stylematch.tables.shown import shown


def no_run(run: Path, or_give: str) -> str:
    """Return why a folder is no finished run, for people, and what to give instead."""
    if damaged := ([run] if _is_damaged(run) else _damaged_snapshots(run)):
        names = ", ".join(shown(folder / MANIFEST) for folder in damaged)
        are = "is" if len(damaged) == 1 else "are"
        return f"{names} {are} damaged or missing, so nobody knows what lies there: {_mended(damaged)}"
    return f"{shown(run)} is not a finished run: give the folder that score wrote (its --out), or {or_give}"


def left_out(root: Path, newest: Path) -> tuple[str, ...]:
    """Return what is said of nights that are left out of what is asked of a root, whose newest whole one is given."""
    damaged = _damaged_snapshots(root)
    if not damaged:
        return ()
    names = ", ".join(shown(folder / MANIFEST) for folder in damaged)
    later = f" (photos, faces and recommendations are those of {newest.name})" if damaged[-1] > newest else ""
    return (f"damaged or missing, so these nights are left out{later}: {names}; {_mended(damaged)}",)


def _is_damaged(run: Path) -> bool:
    is_one = (run / MANIFEST).is_file() or bool(shard_paths(run / "photos"))
    return is_one and read_manifest(run) is None


def _damaged_snapshots(root: Path) -> list[Path]:
    """Return the nights below a root whose manifests say nothing."""
    try:
        folders = sorted((root / SNAPSHOTS).iterdir())
    except OSError:
        return []
    return [folder for folder in folders if night_of(folder.name) is not None and _is_damaged(folder)]


def _mended(damaged: Sequence[Path]) -> str:
    """Return what to do about runs whose manifests are damaged."""
    nights = [path.resolve().name for path in damaged]
    if any(night_of(night) is None for night in nights):
        return "put the file back from a copy, or move the folder away and make the run again"
    dates = " and ".join(f"--date {night[:10]}" for night in nights)
    return (
        "put the file back from a copy, or make the night again, of the photos as they are now: "
        f"export JOB.toml {dates}"
    )
