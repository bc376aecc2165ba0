"""``compare``: what changed between two runs, nights or models: printed, as Parquet, and as a page.

The tables are joined by DuckDB (``compare_sql``), which keeps on disk what memory does not hold. What did not change is
only counted; every photo, face and item that did is a row. No file of either run is read through a link.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylematch.errors import UserError
from stylematch.pipelines.compare_lines import told
from stylematch.pipelines.compare_sql import attribute_change, make_tables, open_runs
from stylematch.report.compare_page import write_compare_page
from stylematch.report.join import attribute_names
from stylematch.settings.engine import EngineChoice
from stylematch.tables.disk import explained, shown, write_durably
from stylematch.tables.manifest import MANIFEST, read_manifest, scoring_settings
from stylematch.tables.replace import replaced_directory
from stylematch.tables.views import PREDICT_TABLES, find_snapshots, refuse_link

MARKER = "changes.json"
ORDER = {
    "photos": "path",
    "faces": "path, coalesce(face_b, face_a), face_a",
    "items": "path, face_b, coalesce(rank_b, 1000000 + rank_a), item_id",
}
_BATCH_ROWS = 8192
_PHOTO_CHANGES = ("same", "added", "gone", "status", "contents", "faces")


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
        return [*told(self.figures), *([f"written to {shown(self.out)}: {_written(self.out)}"] if self.out else [])]


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
        One of them is no finished run or has links in it, or OUT cannot be replaced.
    StylematchError
        OUT cannot be written.
    """
    manifests = [_manifest_of(run) for run in (run_a, run_b)]
    with tempfile.TemporaryDirectory(prefix="stylematch-compare-") as spill, open_runs(run_a, run_b, spill) as runs:
        names = [attribute_names(run) for run in (run_a, run_b)]
        shared = [name for name in names[0] if name in names[1]]
        make_tables(runs, shared)
        figures = {
            "tool": "stylematch compare",
            "runs": [_described(run, manifest) for run, manifest in zip((run_a, run_b), manifests, strict=True)],
            "differing": _differing(*manifests),
            "photos": _photo_figures(runs),
            "faces": _face_figures(runs),
            "styles": [list(row) for row in _rows(runs, _STYLES)],
            "items": _item_figures(runs),
            "attributes": _attribute_figures(runs, shared),
            "attributes_in_one_run": sorted(set(names[0]) ^ set(names[1])),
        }
        if out is not None:
            with replaced_directory(out, MARKER, lambda _, name: name in _OURS, "a comparison") as staged:
                _write(runs, staged, figures, run_a, run_b)
    return Comparison(figures, out)


_OURS = ("photos.parquet", "faces.parquet", "items.parquet", "styles.parquet", "attributes.parquet", "report")
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
_CHANGED = "SELECT * FROM {} WHERE change <> 'same' ORDER BY {}"
_PAGE_FACES = """
    SELECT f.*, coalesce(p.photo_id_b, p.photo_id_a) AS photo_id, p.width AS photo_width, p.height AS photo_height,
           i.items
    FROM (SELECT * FROM faces WHERE change <> 'same') f JOIN photos p ON p.path = f.path
    LEFT JOIN (
        SELECT path, face_b, list({'item_id': item_id, 'category': category, 'rank_a': rank_a, 'rank_b': rank_b,
                                  'change': change} ORDER BY coalesce(rank_b, 1000000 + rank_a), item_id) AS items
        FROM items GROUP BY path, face_b
    ) i ON i.path = f.path AND i.face_b = f.face_b
    ORDER BY f.path, coalesce(f.face_b, f.face_a), f.face_a"""
_STYLES = """
    SELECT style_a, style_b, count(*) AS faces FROM faces WHERE style_a IS NOT NULL AND style_b IS NOT NULL
    GROUP BY ALL ORDER BY faces DESC, style_a, style_b"""


def _manifest_of(run: Path) -> dict[str, Any]:
    refuse_link(run, run / MANIFEST)
    manifest = read_manifest(run)
    if manifest is None and (nights := find_snapshots(run)):
        raise UserError(
            f"{shown(run)} holds {len(nights)} nights and is no run itself: name one of them, such as "
            f"{shown(nights[-1])}"
        )
    if manifest is None:
        raise UserError(
            f"{shown(run)} is not a finished run: give the folder that score wrote (its --out), or a night's of export"
        )
    if PREDICT_TABLES[-1] in manifest.get("outputs", ()):
        raise UserError(
            f"{shown(run)} is a run of predict, which has neither styles nor items to compare: give the folder that "
            "score wrote (its --out), or a night's of export"
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
        found += [f"{prefix}{name}" for name in names if of_a.get(name) != of_b.get(name)]
    return found


def _rows(runs: Any, sql: str) -> list[tuple[Any, ...]]:
    return list(runs.execute(sql).fetchall())


def _photo_figures(runs: Any) -> dict[str, int]:
    counts = dict(_rows(runs, "SELECT change, count(*) FROM photos GROUP BY change"))
    return {change: counts.get(change, 0) for change in _PHOTO_CHANGES}


def _face_figures(runs: Any) -> dict[str, int]:
    counts = dict(_rows(runs, "SELECT change, count(*) FROM faces GROUP BY change"))
    both = sum(counts.get(change, 0) for change in ("same", "items", "style"))
    return {
        "in_both": both,
        "style_moved": counts.get("style", 0),
        "items_changed": counts.get("items", 0),
        "added": counts.get("added", 0),
        "gone": counts.get("gone", 0),
    }


def _item_figures(runs: Any) -> dict[str, Any]:
    compared, same, first, kept, longest, moved = _rows(
        runs,
        """SELECT count(*), count(*) FILTER (same_list), count(*) FILTER (same_first), sum(kept), sum(longest),
                  sum(ranks_moved) FROM lists""",
    )[0]
    overlap = float(kept) / float(longest) if longest else None
    counts = dict(_rows(runs, "SELECT change, count(*) FROM items GROUP BY change"))
    return {
        "lists": compared,
        "same_lists": same,
        "same_first_item": first,
        "overlap": None if overlap is None else round(overlap, 6),
        "ranks_moved": int(moved or 0),
        **{change: counts.get(change, 0) for change in ("same", "moved", "new", "gone")},
    }


def _attribute_figures(runs: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    changes = ", ".join(attribute_change(name) for name in names)
    row = _rows(
        runs,
        f"""SELECT count(*), {changes} FROM matched m
            JOIN a_faces a ON a.path = m.path AND a.face = m.face_a
            JOIN b_faces b ON b.path = m.path AND b.face = m.face_b""",  # noqa: S608  # names quoted
    )[0]
    faces = row[0]
    if not faces:
        return []
    figures = []
    for number, name in enumerate(names):
        a, b, shift, size, largest, up, down = row[1 + 7 * number : 8 + 7 * number]
        means = {
            "mean_a": a / faces,
            "mean_b": b / faces,
            "mean_shift": shift / faces,
            "mean_size": size / faces,
            "largest": largest,
        }
        rounded = {key: round(value / 1e6, 6) for key, value in means.items()}
        figures.append({"attribute": name, **rounded, "became_likely": up, "became_unlikely": down})
    return sorted(figures, key=lambda figure: (-figure["mean_size"], figure["attribute"]))


def _write(runs: Any, staged: Path, figures: dict[str, Any], run_a: Path, run_b: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for table, order in ORDER.items():
        _write_parquet(runs, _CHANGED.format(table, order), staged / f"{table}.parquet")
    _write_parquet(runs, _STYLES, staged / "styles.parquet")
    schema = pa.schema(
        [
            ("attribute", pa.string()),
            *[(name, pa.float64()) for name in ("mean_a", "mean_b", "mean_shift", "mean_size", "largest")],
            ("became_likely", pa.int64()),
            ("became_unlikely", pa.int64()),
        ]
    )
    with explained("write", staged):
        pq.write_table(pa.Table.from_pylist(figures["attributes"], schema), staged / "attributes.parquet")
        galleries = (run_a / "report", run_b / "report")
        # Each in a cursor of its own: a connection forgets one answer when it is asked the next question.
        photos, faces = (
            _dicts(runs.cursor(), sql) for sql in (_CHANGED.format("photos", ORDER["photos"]), _PAGE_FACES)
        )
        write_compare_page(staged, figures, galleries, photos, faces)
    write_durably(staged / MARKER, (json.dumps(figures, indent=2, sort_keys=True) + "\n").encode())


def _write_parquet(runs: Any, sql: str, path: Path) -> None:
    import pyarrow.parquet as pq

    with explained("write", path):
        reader = _reader(runs, sql)
        with pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch, row_group_size=_BATCH_ROWS)


def _reader(runs: Any, sql: str) -> Any:
    relation = runs.sql(sql)
    # DuckDB 2 has another name for what 1.3 calls fetch_arrow_reader.
    return (getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader)(_BATCH_ROWS)


def _dicts(runs: Any, sql: str) -> Iterator[dict[str, Any]]:
    for batch in _reader(runs, sql):
        yield from batch.to_pylist()


def _written(out: Path) -> str:
    return (
        f"photos, faces, items, styles and attributes.parquet; to see them, open {shown(out / 'report' / 'index.html')}"
    )
