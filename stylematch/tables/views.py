"""The tables that lie in a folder, as Arrow data sets under the names that ``query`` gives them.

- A scoring run has ``photos``, ``faces`` and ``recommendations``; one of ``predict`` ``photos`` and ``predictions``;
  one of ``similar`` ``similar_items``.
- A root of nightly snapshots (``snapshots/YYYY-MM-DD``, each a run) has those of its newest night, and each of them
  once more over all nights, as ``photos_history`` and so on, with a column ``snapshot_date`` (DATE).

Nothing below that folder is read through a symbolic link, which may lead anywhere; the folder itself may be one.

In a history a night without a column has NULL there. A column whose type is not the same on all nights (the embedding
of another model) is left out of it; each night still has its own. Files are opened when they are read, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq

from stylematch.errors import UserError
from stylematch.tables.contract import PREDICT_TABLES, SIMILAR_TABLES, TABLES
from stylematch.tables.damaged_runs import left_out, no_run
from stylematch.tables.manifest import MANIFEST, made_by, read_manifest
from stylematch.tables.night_names import SNAPSHOTS, night_of
from stylematch.tables.shards import shard_paths, verified_parquet
from stylematch.tables.shown import is_url, shown, shown_url, why

SNAPSHOT_DATE = "snapshot_date"
HISTORY = "_history"


@dataclass(frozen=True)
class Views:
    """What can be asked.

    Attributes
    ----------
    tables : dict of str to pyarrow.dataset.Dataset
        By name.
    manifest : dict
        Of the run, or of the newest night.
    hint : str
        What an error about an unknown table adds: which tables are missing, and why.
    aliases : dict of str to dict of str to str
        By table, more names of its columns: by that name the column's own.
    warnings : tuple of str
        What a person has to know of every answer: nights that are left out.
    """

    tables: dict[str, Any]
    manifest: dict[str, Any]
    hint: str = ""
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def open_views(out: Path) -> Views:
    """Open the tables of a run, or of a root of nightly snapshots.

    Parameters
    ----------
    out : Path
        What ``score``, ``predict`` or ``similar`` was given as ``--out``, or ``export`` as its root.

    Raises
    ------
    UserError
        It is neither, a table is missing or damaged, or a link stands where a file or folder of a run should.
    """
    refuse_elsewhere(out)
    refuse_link(out, out / MANIFEST)
    manifest = read_manifest(out)
    nights = find_snapshots(out) if manifest is None else []
    if manifest is None and not nights:
        raise UserError(no_run(out, "a root of nightly snapshots"))
    if manifest is not None:
        return Views(tables_of(out), manifest)
    for night in nights:
        refuse_link(out, night / MANIFEST)
    newest = nights[-1]
    tables = _tables(out, newest)
    tables |= {f"{name}{HISTORY}": _history(out, name, nights) for name in list(tables)}
    return Views(tables, read_manifest(newest) or {}, warnings=left_out(out, newest))


def find_snapshots(root: Path) -> list[Path]:
    """Return the finished nights below a root, the oldest first: ``snapshots/YYYY-MM-DD`` with a manifest.

    Raises
    ------
    UserError
        Whether one is finished may not be asked: a history without it would look whole.
    """
    try:
        folders = sorted(path for path in (root / SNAPSHOTS).iterdir() if night_of(path.name) is not None)
    except OSError:
        return []
    nights = []
    for folder in folders:
        if read_manifest(folder) is not None:
            nights.append(folder)
            continue
        try:
            (folder / MANIFEST).open("rb").close()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"{shown(folder)} cannot be read: {why(error)}; check its permissions") from None
    return nights


def open_table(run: Path, table: str, out: Path | None = None) -> Any:
    """Open one table of a run as a data set.

    Parameters
    ----------
    run : Path
        The folder with the table's folder.
    table : str
        Its name.
    out : Path, optional
        The folder below which nothing may be a link; by default the run itself.

    Raises
    ------
    UserError
        The table is missing or damaged, or it is reached through a link.
    """
    files = _shards(out or run, run, table)
    try:
        return ds.dataset(files, format=verified_parquet())
    except (OSError, ValueError) as error:
        raise UserError(f"{shown(run / table)} cannot be read: {why(error)}; {_again(run)}") from None


def refuse_elsewhere(run: Path) -> None:
    """Refuse a run by URL; what reads runs reads folders.

    Raises
    ------
    UserError
        It is one.
    """
    if is_url(run):
        raise UserError(
            f"{shown_url(run)} is a URL: runs are read from folders of this machine; copy the run, or the night "
            "of export, here and name that folder"
        )


def refuse_link(out: Path, path: Path) -> None:
    """Refuse what is reached through a link anywhere below ``out``: no run has one, and it may lead out of it.

    Raises
    ------
    UserError
        There is one; it is named.
    """
    within = path.relative_to(out)
    for part in (*reversed(within.parents), within):
        if part.parts and (out / part).is_symlink():
            raise UserError(
                f"{shown(out / part)} is a symbolic link, and no file of a run is read through one: put the file or "
                "folder itself there, or name the run that the link leads to"
            )


def said_of_damage(tables: Mapping[str, Any]) -> str | None:
    """Look through all files of some tables; return what is said of the first that is damaged inside, if one is."""
    for table in tables.values():
        for fragment in table.get_fragments():
            try:
                for _ in fragment.to_batches():
                    pass
            except (OSError, ValueError, pa.ArrowException) as error:
                file = Path(fragment.path)
                run = file.parent.parent
                again = "build the index again" if read_manifest(run) is None else _again(run)
                return f"{shown(file)} is damaged: {why(error)}; {again}"
    return None


def tables_of(run: Path) -> dict[str, Any]:
    """Return the tables of one run."""
    return _tables(run, run)


def _tables(out: Path, run: Path) -> dict[str, Any]:
    names = next((names for names in (PREDICT_TABLES, SIMILAR_TABLES) if (run / names[-1]).is_dir()), TABLES)
    return {name: open_table(run, name, out) for name in names}


def _shards(out: Path, run: Path, table: str) -> list[Path]:
    files = shard_paths(run / table)
    if not files:
        raise UserError(f"{shown(run)} is damaged: its table '{table}' has no Parquet file; {_again(run)}")
    for file in files:
        refuse_link(out, file)
    return files


def _again(run: Path) -> str:
    """Return what makes a damaged run whole."""
    manifest = read_manifest(run) or {}
    if made_by(manifest) != "export":
        return f"run {made_by(manifest)} again"
    return f"make that night again: export JOB.toml --date {manifest['settings'].get('snapshot_date')}"


def _history(out: Path, table: str, nights: Sequence[Path]) -> Any:
    """Return one table over all nights; every fragment knows its date, so a condition on dates skips whole nights."""
    file_format, filesystem = verified_parquet(), pa.fs.LocalFileSystem()
    fragments, schemas = [], []
    for night in nights:
        files = _shards(out, night, table)
        try:
            schemas.append(pq.read_schema(files[0]))
        except (OSError, ValueError) as error:
            raise UserError(f"{shown(files[0])} cannot be read: {why(error)}; {_again(night)}") from None
        date = pc.field(SNAPSHOT_DATE) == pa.scalar(night_of(night.name), pa.date32())
        fragments += [file_format.make_fragment(str(path), filesystem, partition_expression=date) for path in files]
    return ds.FileSystemDataset(fragments, _common(schemas), file_format, filesystem)


def _common(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns of all nights in the newest one's order, but for those that changed their type."""
    types: dict[str, set[pa.DataType]] = {}
    for schema in reversed(schemas):
        for column in schema:
            types.setdefault(column.name, set()).add(column.type)
    types.pop(SNAPSHOT_DATE, None)
    kept = [pa.field(name, next(iter(kinds))) for name, kinds in types.items() if len(kinds) == 1]
    return pa.schema([pa.field(SNAPSHOT_DATE, pa.date32()), *kept])
