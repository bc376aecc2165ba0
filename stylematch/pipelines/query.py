"""``query``: the tables of a run, and beside them the items and the gallery faces of the index that it used.

A manifest names its indexes by their digests, not by where they lay. The default index, or the one that is named, is
taken only if its digests are the run's; so nobody joins a run with items that it never saw. What the run switched off
(``--without``) is left out of the gallery faces, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from stylematch.errors import UserError
from stylematch.tables.manifest import made_by, scoring_settings
from stylematch.tables.shown import shown, why
from stylematch.tables.views import Views, open_views

VIEWS = {"items": "items", "faces": "gallery_faces"}
"""By part of an index the name of its rows' view."""
NOT_SHOWN = ("picture",)


def open_run(out: Path, indexes: Sequence[Path] = ()) -> Views:
    """Open everything that can be asked of a run or of a root of nightly snapshots.

    Parameters
    ----------
    out : Path
        As for ``open_views``.
    indexes : sequence of Path
        What ``score --index`` was given; the default index without.

    Raises
    ------
    UserError
        ``out`` is no run, or an index that is named is not the run's.
    """
    views = open_views(out)
    used = views.manifest.get("sha256", {})
    asked = {part: name for part, name in VIEWS.items() if part in used}
    if not asked:  # of predict, which asks no index
        return views
    from stylematch.pipelines.assets import named_parts
    from stylematch.search.infos import IndexFolder

    tables, missing = dict(views.tables), []
    try:
        parts = named_parts(indexes)  # the digests say that they belong together
        for part, name in asked.items():
            if IndexFolder.open(parts[part]).sha256 == used[part]:
                tables[name] = _rows(parts[part], scoring_settings(views.manifest).get("without", ()))
            else:
                missing.append(name)
    except UserError:
        if indexes:
            raise
        names = " and ".join(asked.values())
        return replace(views, hint=f" The index that the run used is needed for {names}: name it with --index.")
    if missing and indexes:
        folders, command = ", ".join(shown(path) for path in indexes), made_by(views.manifest)
        raise UserError(
            f"--index {folders}: the run in {shown(out)} used another index for {' and '.join(missing)}, or "
            f"this one has changed since (as catalog add, update and remove change it): run '{command}' again "
            "to join what it has now, or leave --index out to ask for what the run itself says"
        )
    hint = f" The run used another index for {' and '.join(missing)}: name it with --index." if missing else ""
    items = tables.get("items")
    has_other = items is not None and "item_id" not in items.schema.names
    return replace(views, tables=tables, hint=hint, aliases={"items": {"item_id": "id"}} if has_other else {})


def _rows(directory: Path, without: Sequence[str]) -> Any:
    """Return the rows of an index without pictures and what was switched off."""
    from stylematch.search.rows_file import ROWS_FILE

    path = directory / ROWS_FILE
    try:
        schema = pq.read_schema(path)
        kept = [field for field in schema if field.name not in (*NOT_SHOWN, *without)]
        return ds.dataset(path, schema=pa.schema(kept), format="parquet")
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(path)} cannot be read: {why(error)}; build the index again") from None
