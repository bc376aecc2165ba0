"""``similar``: for every item of a catalogue the items that look most like it, as a table.

- An item's embedding is the query. Whoever is offered is searched among alone (``--where``, ``--same``), so there are
  ``--top-k`` wherever so many exist; the item itself is never among them.
- Items are asked in partitions of a fixed size, in the index's order; a partition that is done stays done.
- Everything is staged and appears by one rename, as a run of ``score`` does.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.pipelines.assets import item_index
from stylematch.pipelines.indexing.ids_file import read_ids_file, told_missing
from stylematch.pipelines.indexing.item_neighbours import Neighbourhood, Positions, nearest_to, pair_columns
from stylematch.pipelines.run_spec import rows_allowed
from stylematch.search.base import SearchIndex
from stylematch.search.directory import load_index_directory
from stylematch.search.infos import infos_sha256
from stylematch.search.kinds import is_approximate
from stylematch.settings.similar import SimilarSettings
from stylematch.tables.contract import SIMILAR_TABLES, similar_items_schema
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import Manifest, Stage, compute_run_id, json_sha256, read_manifest, write_manifest
from stylematch.tables.out import check_other_command
from stylematch.tables.shown import shown
from stylematch.tables.staging import Decision, Staging, nothing_to_do
from stylematch.tables.writer import ShardWriter
from stylematch.vision.runtime import resolve_device

COMMAND = "similar"
TABLE = SIMILAR_TABLES[0]
PARTITION_ITEMS = 8192  # 130 MB of answers where each is asked for the most that may be


@dataclass(frozen=True)
class SimilarCounts:
    """How many of everything.

    Attributes
    ----------
    items : int
        Whom others were searched for.
    offered : int
        Items that may stand in an answer.
    pairs : int
        Rows.
    short : int
        Items with fewer than ``top_k`` others.
    """

    items: int
    offered: int
    pairs: int
    short: int


@dataclass(frozen=True)
class SimilarSummary:
    """What ``similar`` did: where to, under which name, what came out, and whether it was there before."""

    out: Path
    run_id: str
    top_k: int
    counts: SimilarCounts
    was_there: bool
    seconds: float

    def lines(self) -> list[str]:
        """Return what a person is told at the end."""
        out, c = shown(self.out), self.counts
        if self.was_there:
            lines = [nothing_to_do(self.out, self.run_id)]
        else:
            lines = [
                f"{c.items:,} items, {self.top_k} like each of them from {c.offered:,}: {c.pairs:,} rows",
                f"table: {out}/{TABLE}; manifest.json",
            ]
        if c.short:
            lines.append(f"items with fewer than {self.top_k} others that may be offered: {c.short:,}")
        return lines


def similar(out: Path, settings: SimilarSettings, index: Path | None = None, ids: Path | None = None) -> SimilarSummary:
    """Write for the items of a catalogue the items that look most like each.

    Parameters
    ----------
    out : pathlib.Path
        Where the run is published.
    settings : SimilarSettings
        How.
    index : pathlib.Path, optional
        An index of items, or a collection that holds one; by default the shipped one.
    ids : pathlib.Path, optional
        A file of the ids of the items that are asked about, one a line; by default all.

    Raises
    ------
    UserError
        If a path, an id, a column or the condition is wrong.
    StylematchError
        If the run failed; the same command goes on with it.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    check_other_command(out, COMMAND)
    directory = item_index(index)
    # On a GPU an approximate index is searched exactly (``stylematch.search.approximate``): other rows than a CPU's.
    device = "cpu" if is_approximate(directory) else resolve_device(settings.device)
    stored = load_index_directory(directory, device=device)
    allowed = None if settings.where is None else rows_allowed(settings.where, stored.rows, directory)
    asked = _asked(stored.index, ids, directory)
    near = Neighbourhood(stored.rows, settings.same, allowed)
    named = {"command": COMMAND, "top_k": settings.top_k, "same": list(settings.same)}
    if allowed is not None:
        named["allowed_items"] = hashlib.sha256(allowed.tobytes()).hexdigest()
    digests = {
        "inputs": hashlib.sha256(asked.tobytes()).hexdigest(),
        "settings": json_sha256(named),
        "items": infos_sha256(stored.infos),
    }
    run_id = compute_run_id(
        inputs=digests["inputs"], settings=named, bundles="", index=digests["items"], rules="", code=code_version()
    )
    with Staging(out, run_id, overwrite=settings.overwrite) as staging:
        was_there = staging.check() is Decision.NOTHING
        if was_there:
            counts = SimilarCounts(**(read_manifest(staging.out) or {})["counts"])
        else:
            searched = _write(staging, stored.index, near, asked, settings.top_k, run_id)
            others = np.minimum(near.others(asked), settings.top_k)
            counts = SimilarCounts(len(asked), near.offered, int(others.sum()), int((others < settings.top_k).sum()))
            write_manifest(
                staging.directory,
                Manifest(
                    run_id=run_id,
                    counts=cast(Any, counts),
                    stages={"search": searched},
                    code_version=code_version(),
                    sha256=digests,
                    settings={"command": COMMAND, **settings.model_dump()},
                    device=device,
                    started=started,
                    finished=datetime.now(UTC),
                ),
            )
            staging.publish()
    return SimilarSummary(staging.out, run_id, settings.top_k, counts, was_there, time.perf_counter() - clock)


def _asked(index: SearchIndex, ids: Path | None, directory: Path) -> Positions:
    """Return the positions of the items that are asked about, ascending."""
    if ids is None:
        return np.arange(len(index))
    names = read_ids_file(ids)
    positions = index.positions_of(names)
    if missing := [name for name, position in zip(names, positions, strict=True) if position < 0]:
        raise UserError(f"{told_missing(ids, names, missing, directory)}; mend the file.")
    return np.sort(positions)


def _write(staging: Staging, index: SearchIndex, near: Neighbourhood, asked: Positions, k: int, run_id: str) -> Stage:
    """Search and write the partitions that are not done."""
    done = staging.prepare(SIMILAR_TABLES)
    parts = range(-(-len(asked) // PARTITION_ITEMS))
    waiting = [number for number in parts if number not in done]
    before = sum(len(_part(asked, number)) for number in done)
    clock = time.perf_counter()
    with Progress(len(asked), "items", COMMAND, initial=before) as progress:
        for number in waiting:
            positions = _part(asked, number)
            with ShardWriter(staging.table(TABLE), number, similar_items_schema()) as writer:
                pairs = pair_columns(index, positions, *nearest_to(index, near, positions, k, progress))
                run = pa.array([run_id]).take(pa.array(np.zeros(len(pairs["rank"]), np.int64)))
                writer.write({"run_id": run, **pairs})
    return Stage(time.perf_counter() - clock, len(asked) - before, "items")


def _part(asked: Positions, number: int) -> Positions:
    return asked[number * PARTITION_ITEMS : (number + 1) * PARTITION_ITEMS]
