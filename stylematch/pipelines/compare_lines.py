"""What ``compare`` tells a person: the figures of ``changes.json`` as a table of plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stylematch.tables.shown import shown

_SHOWN = 10


def told(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the lines.

    Parameters
    ----------
    figures : dict
        Of a comparison.
    """
    a, b = figures["runs"]
    for side, run in (("A", a), ("B", b)):
        night = f", night of {shown(run['snapshot_date'])}" if run["snapshot_date"] else ""
        yield f"{side}: {run['folder']}{night} ({run['run_id']})"
    yield f"made differently: {', '.join(figures['differing']) or 'nothing'}"
    yield ""
    yield f"{'':<24}{'A':>12}{'B':>12}"
    for name in ("found", "scored", "no_face", "rejected", "faces", "recommendations"):
        yield f"{name.replace('_', ' '):<24}{a['counts'][name]:>12,}{b['counts'][name]:>12,}"
    yield ""
    photos, faces, items = figures["photos"], figures["faces"], figures["items"]
    rows = [
        ("photos added", photos["added"]),
        ("photos gone", photos["gone"]),
        ("photos renamed", photos["renamed"]),
        ("photos of other status", photos["status"]),
        ("photos of other contents", photos["contents"]),
        ("photos with other faces", photos["faces"]),
        ("faces in both", faces["in_both"]),
        ("faces of another style", faces["style_moved"]),
        ("faces with other items only", faces["items_changed"]),
        ("faces added", faces["added"]),
        ("faces gone", faces["gone"]),
        ("lists of items compared", items["lists"]),
        ("of these the same", items["same_lists"]),
        ("with the same first item", items["same_first_item"]),
    ]
    for label, number in rows:
        yield f"{label:<30}{number:>10,}"
    if items["overlap"] is not None:
        yield f"{'overlap of the lists':<30}{items['overlap']:>10.1%}"
    moved = [row for row in figures["styles"] if row[0] != row[1]]
    if moved:
        yield ""
        yield "styles moved, faces"
        for style_a, style_b, number in moved[:_SHOWN]:
            yield f"  {number:>8,}  {shown(style_a)} -> {shown(style_b)}"
        if len(moved) > _SHOWN:
            yield f"  and {len(moved) - _SHOWN} more pairs"
    shifted = [figure for figure in figures["attributes"] if figure["mean_size"] > 0]
    if shifted:
        yield ""
        yield f"{'attributes shifted most':<28}{'mean A':>8}{'mean B':>8}{'|shift|':>9}{'now >= 0.5':>12}{'no more':>9}"
        for figure in shifted[:_SHOWN]:
            yield (
                f"  {shown(figure['attribute']):<26}{figure['mean_a']:>8.3f}{figure['mean_b']:>8.3f}"
                f"{figure['mean_size']:>9.3f}{figure['became_likely']:>12,}{figure['became_unlikely']:>9,}"
            )
