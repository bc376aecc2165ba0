"""``compare``: what changed between two runs, nights or models: printed, as Parquet, and as a page.

The tables are joined by DuckDB (``compare_sql``), which keeps on disk what memory does not hold. What did not change is
only counted; every photo, face and item that did is a row. No file of either run is read through a link.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylematch.errors import UserError
from stylematch.pipelines.compare_figures import figures_of
from stylematch.pipelines.compare_files import COMPARISON, write_comparison, written
from stylematch.pipelines.compare_lines import told
from stylematch.pipelines.compare_sql import make_tables, open_runs
from stylematch.report.join import attribute_names
from stylematch.settings.engine import EngineChoice
from stylematch.tables.closed_duckdb import words_of
from stylematch.tables.damaged_runs import no_run
from stylematch.tables.manifest import MANIFEST, read_manifest, scoring_settings
from stylematch.tables.shown import shown
from stylematch.tables.views import find_snapshots, refuse_elsewhere, refuse_link, said_of_damage, tables_of


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found.

    Attributes
    ----------
    figures : dict
        As ``changes.json`` holds them: ``runs``, ``differing``, ``photos``, ``faces``, ``styles``, ``items`` and
        ``attributes``.
    out : pathlib.Path or None
        Where all changes were written.
    """

    figures: dict[str, Any]
    out: Path | None

    def lines(self) -> list[str]:
        """Return what a person is told."""
        return [*told(self.figures), *([f"written to {shown(self.out)}: {written(self.out)}"] if self.out else [])]


def compare(run_a: Path, run_b: Path, out: Path | None = None) -> Comparison:
    """Compare two finished runs.

    Parameters
    ----------
    run_a, run_b : pathlib.Path
        The earlier or usual one, and the other.
    out : pathlib.Path, optional
        Where Parquet files and the page go; an earlier comparison there is replaced.

    Raises
    ------
    UserError
        One of them is no finished run, is damaged or has links in it, or OUT cannot be replaced.
    StylematchError
        OUT cannot be written.
    """
    if out is not None:
        COMPARISON.check(out)  # before the work
    manifests = [_manifest_of(run) for run in (run_a, run_b)]
    with (
        tempfile.TemporaryDirectory(prefix="stylematch-compare-") as spill,
        open_runs(run_a, run_b, spill) as runs,
        _told_where_it_fails(run_a, run_b),
    ):
        names = [attribute_names(run) for run in (run_a, run_b)]
        shared = [name for name in names[0] if name in names[1]]
        make_tables(runs, shared)
        figures = {
            "tool": "stylematch compare",
            "runs": [_described(run, manifest) for run, manifest in zip((run_a, run_b), manifests, strict=True)],
            "differing": _differing(*manifests),
            **figures_of(runs, shared),
            "attributes_in_one_run": sorted(set(names[0]) ^ set(names[1])),
        }
        if out is not None:
            write_comparison(runs, out, figures, run_a, run_b)
    return Comparison(figures, out)


@contextmanager
def _told_where_it_fails(run_a: Path, run_b: Path) -> Iterator[None]:
    """Turn what DuckDB cannot read, a page of a table that is damaged, or has no room for, into a sentence."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        damage = next((said for run in (run_a, run_b) if (said := said_of_damage(tables_of(run)))), None)
        said = f"{shown(words_of(error).rstrip('.'))}; score again what is damaged, or make room for temporary files"
        raise UserError(f"{shown(run_a)} and {shown(run_b)} could not be compared: {damage or said}") from None


# Settings that change no table, and digests of what is named one by one: of all settings, and of what a night keeps
# features by.
_NO_DIFFERENCE = {
    "settings",
    "features",
    "device",
    "batch_size",
    "workers",
    "overwrite",
    "report",
    "max_reject_share",
} | {*EngineChoice.model_fields}


def _manifest_of(run: Path) -> dict[str, Any]:
    refuse_elsewhere(run)
    refuse_link(run, run / MANIFEST)
    manifest = read_manifest(run)
    if manifest is None and (nights := find_snapshots(run)):
        raise UserError(
            f"{shown(run)} holds {len(nights)} nights and is no run itself: name one of them, such as "
            f"{shown(nights[-1])}"
        )
    if manifest is None:
        raise UserError(no_run(run, "a night's of export"))
    if command := (manifest.get("settings") or {}).get("command"):
        raise UserError(
            f"{shown(run)} is a run of {shown(command)}, which has neither styles nor items for people: give the "
            "folder that score wrote (its --out), or a night's of export"
        )
    return manifest


def _described(run: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    values = {name: manifest.get(name) for name in ("run_id", "code_version", "device", "finished")}
    night = (manifest.get("settings") or {}).get("snapshot_date")
    return {"folder": shown(run), "snapshot_date": night, **values, "counts": manifest["counts"]}


def _differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return what the two runs were made from differently: digests, settings, code, device."""
    found = [name for name in ("code_version", "device") if a.get(name) != b.get(name)]
    # A night's job asks for more than scoring, such as where its photos are: none of it is a difference of tables.
    settings = (scoring_settings(a), scoring_settings(b))
    for of_a, of_b, prefix in ((a.get("sha256") or {}, b.get("sha256") or {}, ""), (*settings, "settings.")):
        names = sorted({*of_a, *of_b} - _NO_DIFFERENCE)
        found += [f"{prefix}{name}" for name in names if _said(of_a, name) != _said(of_b, name)]
    return found


def _said(of_run: dict[str, Any], name: str) -> Any:
    """Return what a run was made with; an empty list is none, as an older version has no key for it."""
    value = of_run.get(name)
    return None if value == [] else value
