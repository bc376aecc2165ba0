"""Read files that are not known, and keep the features of their contents: what a night's workers do first.

A partition function as ``score_partition`` is. Each file is read once, for its hash and for its faces; contents whose
features are kept already are only hashed, and the models are loaded only if there are others.

The parent process watches each file, while it is read and while it is decoded. One on which a worker hung or died is
only hashed in the next try, so that its row names its contents as ``score`` does; one on which that hung, too, is left
alone. Neither is settled: the next night tries again.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.listing import LostPhoto, Partition
from stylematch.data.photo_file import photo_id_of
from stylematch.data.photo_folders import PhotoFolder
from stylematch.data.photos import FoundPhoto
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.face_features import FeatureExtractor, Rows
from stylematch.pipelines.listed_photos import reading
from stylematch.pipelines.nights.feature_store import PENDING, FeatureDraft, FeatureStore, files_schema
from stylematch.pipelines.nights.night_lists import read_todo
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.pipelines.run_spec import RunSpec
from stylematch.report.pictures import make_thumbnail
from stylematch.tables.contract import UNSETTLED, Reason
from stylematch.tables.shards import shard_path
from stylematch.tables.writer import ShardWriter

_READ_AT_ONCE = 8
_BATCH_BYTES = 64_000_000
_ID_BYTES = 16


@dataclass(frozen=True)
class KeepJob:
    """All that a worker needs to know to read files into the store.

    Attributes
    ----------
    spec : RunSpec
        How photos are read and faces found, and by which models.
    photos : PhotoFolder
        Where the files are.
    store : FeatureStore
        Where features go.
    listing, known_ids : pathlib.Path
        What ``FeaturePlan.write_todo`` and ``write_known_ids`` wrote.
    staged : pathlib.Path
        A folder for shards that are not finished.
    names : str
        What the names of tonight's shards begin with.
    seen : int
        When the night began, in nanoseconds since 1970.
    threads : int
        Threads of one model call.
    """

    spec: RunSpec
    photos: PhotoFolder
    store: FeatureStore
    listing: Path
    known_ids: Path
    staged: Path
    names: str
    seen: int
    threads: int = 1

    @property
    def device(self) -> str:
        """Where models run."""
        return self.spec.device


class KeepState:
    """What a process loads once; the models only when the first photo needs them."""

    def __init__(self, job: KeepJob) -> None:
        self.job = job
        size = job.known_ids.stat().st_size // _ID_BYTES
        self._known = np.memmap(job.known_ids, f"V{_ID_BYTES}", "r", shape=(size,)) if size else None
        self._extractor: FeatureExtractor | None = None

    @property
    def extractor(self) -> FeatureExtractor:
        """The face finder and the models."""
        if self._extractor is None:
            job = self.job
            self._extractor = FeatureExtractor(job.spec, job.threads)
        return self._extractor

    def is_known(self, photo_id: str) -> bool:
        """Return whether the store had features of these contents when the night began."""
        if self._known is None:
            return False
        wanted = bytes.fromhex(photo_id)
        low, high = 0, len(self._known)
        while low < high:
            middle = (low + high) // 2
            if self._known[middle].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        return low < len(self._known) and self._known[low].tobytes() == wanted


@dataclass(frozen=True)
class _Looked:
    """A file that was read: its photo_id, its bytes, and what is wrong with it."""

    photo: FoundPhoto
    data: bytes | None
    error: PhotoRejectedError | None


def keep_partition(state: KeepState, partition: Partition, advance: Callable[[int], None]) -> PartitionResult:
    """Read one partition's files, keep the features of contents that are not known, and say which file has which."""
    job, result = state.job, PartitionResult()
    name = f"{job.names}-{partition.number:05d}"
    given_up: dict[str, list[LostPhoto]] = defaultdict(list)
    for photo in partition.lost:
        given_up[photo.path].append(photo)
    together = 1 if partition.alone else job.spec.settings.batch_size
    temporary = tempfile.TemporaryDirectory(dir=job.staged, ignore_cleanup_errors=True)
    with temporary as folder, ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        scratch, done_here = Path(folder), set[str]()
        files = ShardWriter(scratch / "files", 0, files_schema())
        draft = FeatureDraft(job.store, name, scratch)
        with files, draft:
            for batch in _batches(read_todo(job.listing, partition), together):
                with result.timed("read and hash", len(batch), "photos"):
                    looked = list(pool.map(lambda photo: _look(job, photo, given_up.get(photo.path)), batch))
                files.write(_files_rows(looked, job.seen))
                new: dict[str, _Looked] = {}
                for entry in looked:
                    photo_id = entry.photo.photo_id
                    if not photo_id or photo_id in done_here or state.is_known(photo_id):
                        continue
                    # Of equal contents one that could be read, whichever batch it is in.
                    if photo_id not in new or new[photo_id].error:
                        new[photo_id] = entry
                del looked
                done_here |= {
                    photo_id
                    for photo_id, entry in new.items()
                    if entry.error is None or entry.error.reason not in UNSETTLED
                }
                _keep(state, draft, new, result)
                advance(len(batch))
        if draft.photos:
            draft.publish()
        job.store.place.take(shard_path(scratch / "files", 0), f"{PENDING}/{name}.parquet")
    return result


def _batches(photos: Iterable[FoundPhoto], count: int) -> Iterator[list[FoundPhoto]]:
    """Cut photos into batches of at most ``count`` that are not too large to be held in memory together."""
    batch: list[FoundPhoto] = []
    size = 0
    for photo in photos:
        if batch and (len(batch) == count or size + photo.bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(photo)
        size += photo.bytes
    if batch:
        yield batch


def _look(job: KeepJob, photo: FoundPhoto, given_up: list[LostPhoto] | None) -> _Looked:
    """Read and hash one file; one that is given up or rejected unread is hashed without being held, if it can be."""
    if given_up:
        error = PhotoRejectedError(given_up[-1].reason, given_up[-1].message)
        if len(given_up) > 1:
            return _Looked(photo, None, error)
    else:
        try:
            with reading(photo.path):
                data = job.photos.read(photo.raw_path, int(job.spec.settings.max_file_mb * 1e6))
            return _Looked(replace(photo, photo_id=photo_id_of(data)), data, None)
        except PhotoRejectedError as rejected:
            error = rejected
            if error.reason in (Reason.UNREADABLE_FILE, Reason.FILE_TOO_LARGE):
                return _Looked(photo, None, error)
    try:
        with reading(photo.path):
            return _Looked(replace(photo, photo_id=job.photos.hash(photo.raw_path)), None, error)
    except PhotoRejectedError as unreadable:
        return _Looked(photo, None, unreadable)


def _files_rows(looked: list[_Looked], seen: int) -> Rows:
    return {
        "path": [entry.photo.path for entry in looked],
        "bytes": [entry.photo.bytes for entry in looked],
        "stamp": [entry.photo.stamp for entry in looked],
        "photo_id": [entry.photo.photo_id for entry in looked],
        "reason": [None if entry.photo.photo_id or not entry.error else entry.error.reason for entry in looked],
        "message": [None if entry.photo.photo_id or not entry.error else entry.error.sentence for entry in looked],
        "seen": [seen] * len(looked),
    }


def _keep(state: KeepState, draft: FeatureDraft, new: dict[str, _Looked], result: PartitionResult) -> None:
    """Decode what is new, ask the models, and append it to the shard."""
    if not new:
        return
    thumbnails: dict[str, bytes] = {}

    def read(photo: FoundPhoto) -> bytes:
        entry = new[str(photo.photo_id)]
        if entry.data is None:
            raise entry.error or PhotoRejectedError(Reason.UNREADABLE_FILE, "the file could not be read")
        return entry.data

    def draw(photo: FoundPhoto, pixels: npt.NDArray[np.uint8]) -> None:
        thumbnails[str(photo.photo_id)] = make_thumbnail(pixels)

    photos, faces = state.extractor.extract(
        [entry.photo for entry in new.values()], read, result, draw if state.job.spec.settings.report else None
    )
    with result.timed("keep", len(new), "photos"):
        draft.add(photos, faces, thumbnails)
