"""The figures of a comparison, from the tables of ``compare_sql``: counts, moved styles, lists, attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stylematch.pipelines.compare_sql import attribute_change

_PHOTO_CHANGES = ("same", "added", "gone", "renamed", "status", "contents", "faces")
STYLES = """
    SELECT style_a, style_b, count(*) AS faces FROM faces WHERE style_a IS NOT NULL AND style_b IS NOT NULL
    GROUP BY ALL ORDER BY faces DESC, style_a, style_b"""


def figures_of(runs: Any, attributes: Sequence[str]) -> dict[str, Any]:
    """Return what changed between two runs, in numbers.

    Parameters
    ----------
    runs : duckdb.DuckDBPyConnection
        With the tables that ``make_tables`` made.
    attributes : sequence of str
        Those that both runs have.

    Returns
    -------
    dict
        ``photos``, ``faces``, ``styles``, ``items`` and ``attributes``, as ``changes.json`` holds them.
    """
    return {
        "photos": _photo_figures(runs),
        "faces": _face_figures(runs),
        "styles": [list(row) for row in _rows(runs, STYLES)],
        "items": _item_figures(runs),
        "attributes": _attribute_figures(runs, attributes),
    }


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
