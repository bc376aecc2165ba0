"""After a night: what is known of files is written anew, and the store holds the features of tonight's photos alone.

Shards with rows that nobody needs any more are written without them, and many small ones are joined. New shards come
first and old ones go afterwards, so a kill in between leaves rows twice, which the next night mends.
"""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

from stylematch.pipelines.nights.feature_plan import FeaturePlan
from stylematch.pipelines.nights.feature_reader import FeatureReader
from stylematch.pipelines.nights.feature_store import (
    FILES,
    MAX_SHARD_PHOTOS,
    ROW_GROUP_ROWS,
    FeatureDraft,
    FeatureStore,
    files_schema,
)
from stylematch.tables.shards import shard_path
from stylematch.tables.writer import ShardWriter

_SMALL_PHOTOS, _MANY_SMALL = MAX_SHARD_PHOTOS // 4, 16


def write_files(store: FeatureStore, plan: FeaturePlan, scratch: Path, name: str, seen: int) -> None:
    """Write what is known of tonight's files in place of all that was known before, if it differs."""
    place = store.place
    before, pending = plan.files_known, plan.files_pending  # others are those of another night that is under way
    if before and not plan.damaged and plan.files_are_as_before():
        before = before[:-1]  # the newest stays
    else:
        with ShardWriter(scratch / "files", 0, files_schema()) as writer:
            for rows in plan.files(seen):
                writer.write(rows)
        place.take(shard_path(scratch / "files", 0), f"{FILES}/{name}.parquet")
    for old in [*before, *pending]:
        place.remove(old)


def tidy(store: FeatureStore, plan: FeaturePlan, scratch: Path, name: str) -> None:
    """Drop the features of photos that are gone, halves of shards and damaged ones; join small shards."""
    live, rows = plan.live_rows(), plan.rows_of_shards()
    changed = [shard for shard, count in sorted(rows.items()) if live.get(shard, 0) < count]
    small = [shard for shard, count in sorted(live.items()) if count < _SMALL_PHOTOS and shard not in changed]
    if len(small) > _MANY_SMALL:
        changed += small
    for shard in plan.damaged_shards():
        store.remove_shard(shard)
    if changed:
        _write_again(store, plan, changed, scratch, name)
        for shard in changed:
            store.remove_shard(shard)
    store.remove_halves(name)
    store.remove_others()


def _write_again(store: FeatureStore, plan: FeaturePlan, shards: list[str], scratch: Path, name: str) -> None:
    reader = FeatureReader(store, thumbnails=True)
    where = plan.live_in(shards)
    number = 0
    while chunk := list(islice(where, MAX_SHARD_PHOTOS)):
        with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
            with FeatureDraft(store, f"{name}-tidy-{number:05d}", Path(folder)) as draft:
                for start in range(0, len(chunk), ROW_GROUP_ROWS):
                    taken = reader.take(chunk[start : start + ROW_GROUP_ROWS])
                    draft.add_rows(taken.photos, taken.faces)
            draft.publish()
        number += 1
