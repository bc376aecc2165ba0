"""What earlier nights have published that tonight's need not do again, or is compared with."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from stylematch.errors import StylematchError
from stylematch.tables.contract import UNSETTLED
from stylematch.tables.environment import package_versions
from stylematch.tables.night_names import SNAPSHOTS
from stylematch.tables.place import Place
from stylematch.tables.snapshots import Snapshots
from stylematch.tables.staging import Staging


def already_published(
    snapshots: Snapshots, day: date, run_id: str, *, with_gallery: bool, unsettled: int
) -> str | None:
    """Return the snapshot of this night if it is this very run, whole, and no photo was settled since.

    What ended a worker may be read by another try, so ``unsettled``, how many photos are not settled now, tells two
    runs of one name apart.
    """
    tonight = [name for name, when in snapshots.finished().items() if when == day.isoformat()]
    ours = (name for name in tonight if snapshots.run_id(name) == run_id)
    return next(
        (
            name
            for name in ours
            if snapshots.summary(name)
            and sum(snapshots.manifest(name)["counts"]["reasons"].get(reason, 0) for reason in UNSETTLED) == unsettled
            and snapshots.is_whole(name)
            and (not with_gallery or "index.html" in snapshots.place.list(f"{SNAPSHOTS}/{name}/report"))
        ),
        None,
    )


def forget_unsettled(staging: Staging) -> None:
    """Have the partitions written again that an earlier try of this run staged with photos that are not settled.

    They may be settled now, which the run's name does not say.
    """
    photos = staging.table("photos")
    for shard in photos.glob("part-*.parquet"):
        try:
            reasons = set(pq.read_table(shard, columns=["reason"])["reason"].unique().to_pylist())
        except (OSError, pa.ArrowInvalid):  # torn by a kill
            reasons = set(UNSETTLED)
        if reasons & UNSETTLED:
            shard.unlink()


def with_equal_tables(snapshots: Snapshots, run_id: str, features: str) -> str | None:
    """Return a snapshot whose tables are tonight's, but for the date: the same run, of features made alike."""
    for name in reversed(snapshots.finished()):
        manifest = snapshots.manifest(name)
        if (
            manifest.get("run_id") == run_id
            and manifest["sha256"]["features"] == features
            and manifest["packages"] == package_versions()
            and not UNSETTLED & manifest["counts"]["reasons"].keys()
        ):
            return name
    return None


def found_last(snapshots: Snapshots) -> int:
    """Return how many photos the newest snapshot has; 0 where there is none, or nothing can be said."""
    name = next(reversed(snapshots.finished()), None)
    return snapshots.summary(name).get("photos", {}).get("found", 0) if name else 0


def check_gone(gone: int, how: str, *, before: int, limit: float, place: Place) -> None:
    """See that enough of the last snapshot's photos is left for a night.

    Raises
    ------
    StylematchError
        ``gone`` of the ``before`` photos are more than the share ``limit``.
    """
    if before and gone / before > limit:
        raise StylematchError(
            f"{gone:,} of last night's {before:,} photos {how} ({gone / before:.0%}), over max_gone_share "
            f"{limit:g}: nothing is published and nothing forgotten; see that {place} is whole, or raise max_gone_share"
        )


def rules_of(snapshots: Snapshots, name: str) -> str | None:
    """Return the digest of the rules that made a snapshot; None where nothing can be said."""
    return snapshots.manifest(name).get("sha256", {}).get("rules")


def styles_before(snapshots: Snapshots, day: date) -> tuple[str | None, dict[str, int]]:
    """Return the newest earlier snapshot with faces and how many of each style; without one, the newest."""
    earlier = snapshots.before(day)
    for name in earlier:
        styles = snapshots.summary(name).get("styles", {})
        if any(part["faces"] for part in styles.values()):
            return name, {style: part["faces"] for style, part in styles.items()}
    return (earlier[0] if earlier else None), {}
