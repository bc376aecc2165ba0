"""Photos to features: what models say of every face, before any rule or index is asked.

Photos go through in batches: read and decode, locate and cut faces, one model call over all crops, one over all
torsos. Nothing of a result depends on which photos share a batch. Features follow from a photo's bytes and from the
models alone, so they can be kept when rules or items change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import PIXEL_CENTRE_PX
from stylematch.data.photos import FoundPhoto
from stylematch.errors import PhotoRejectedError
from stylematch.pipelines.listed_photos import no_face_row, read_row, reading, rejected_row
from stylematch.pipelines.partition_result import PartitionResult
from stylematch.tables.contract import LANDMARKS, Status, photos_schema
from stylematch.vision.bundle import sees_clothes
from stylematch.vision.face_reader import FaceReader, PhotoFaces
from stylematch.vision.garments import cut_torso
from stylematch.vision.runtime import Runtime, load_runtime, run_in_batches

if TYPE_CHECKING:
    from stylematch.pipelines.run_spec import RunSpec

Rows = dict[str, Any]
"""Columns by name: lists or arrays of one length."""


@dataclass(frozen=True)
class FaceFeatures:
    """What models say of the faces of some photos.

    Attributes
    ----------
    columns : dict of str to list or ndarray
        The columns of the faces table that need no style: keys, box, landmarks, attributes.
    attributes : ndarray of float32, shape (n, attributes)
        Calibrated probabilities.
    embedding : ndarray of float32, shape (n, dim)
        Unit vectors.
    worn : list of ndarray of float32, shape (garment dim,), or None
        The embedding of what each person wears; None where it cannot be seen.
    """

    columns: Rows = field(default_factory=dict)
    attributes: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    embedding: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    worn: list[npt.NDArray[np.float32] | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.worn)


def joined_rows(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several batches as one; of a batch without any, ``{}`` will do."""
    filled = [part for part in parts if part]
    if len(filled) < 2:
        return filled[0] if filled else {}
    return {name: _joined([part[name] for part in filled]) for name in filled[0]}


def joined_features(parts: Sequence[FaceFeatures]) -> FaceFeatures:
    """Return the features of several batches as one, in their order."""
    filled = [part for part in parts if len(part)]
    if len(filled) < 2:
        return filled[0] if filled else FaceFeatures()
    return FaceFeatures(
        joined_rows([part.columns for part in filled]),
        np.concatenate([part.attributes for part in filled]),
        np.concatenate([part.embedding for part in filled]),
        [worn for part in filled for worn in part.worn],
    )


def _joined(columns: Sequence[Any]) -> Any:
    return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else list(chain.from_iterable(columns))


@dataclass(frozen=True)
class _Read:
    """One photo after reading: its row, and its faces where it has any."""

    photo: FoundPhoto
    row: dict[str, Any]
    faces: PhotoFaces | None
    torsos: tuple[npt.NDArray[np.uint8] | None, ...] = ()  # of each face


class FeatureExtractor:
    """The face finder and the models, loaded once for a process.

    Parameters
    ----------
    spec : RunSpec
        How faces are found and what is too large, which models, and where they run.
    threads : int
        Threads of one model call.

    Raises
    ------
    UserError
        If a model is damaged.
    StylematchError
        If a model is no longer the one that ``spec`` was made of.
    """

    def __init__(self, spec: RunSpec, threads: int) -> None:
        bundle, encoder, device = spec.assets.attributes, spec.assets.garments, spec.device
        self.settings = settings = spec.settings
        self.attribute_names = spec.assets.attribute_names
        self.embedding_dim = bundle.embedding_dim
        self.runtime = load_runtime(bundle, device, threads)
        self.garments: Runtime | None = load_runtime(encoder, device, threads) if sees_clothes(encoder) else None
        self.reader = FaceReader(
            settings.faces,
            bundle.input_px,
            min_face_px=settings.min_face_px,
            max_megapixels=settings.max_megapixels,
        )

    def extract(
        self,
        photos: Sequence[FoundPhoto],
        read: Callable[[FoundPhoto], bytes],
        result: PartitionResult,
        on_pixels: Callable[[FoundPhoto, npt.NDArray[np.uint8]], None] | None = None,
    ) -> tuple[Rows, FaceFeatures]:
        """Return the photos' rows and what models say of their faces.

        Parameters
        ----------
        photos : sequence of FoundPhoto
            A batch.
        read : callable
            Returns a photo's bytes, or raises ``PhotoRejectedError``, which becomes the photo's row.
        result : PartitionResult
            Where the time of each stage is counted.
        on_pixels : callable, optional
            Told the pixels of every photo that could be decoded, scaled down to at most ``PREVIEW_SIDE_PX``.

        Returns
        -------
        photos : dict of str to list
            Columns of the photos table.
        faces : FaceFeatures
            In the order of the photos, the largest face of each first.
        """
        entries = [self._read(photo, read, result, on_pixels) for photo in photos]
        rows = {name: [entry.row[name] for entry in entries] for name in photos_schema().names}
        crops = [entry.faces.crops for entry in entries if entry.faces is not None]
        if not crops:
            return rows, FaceFeatures()
        keys = [(e.photo, e.faces, face) for e in entries if e.faces for face in range(len(e.faces.boxes))]
        with result.timed("attributes", len(keys), "faces"):
            predictions = run_in_batches(self.runtime, np.concatenate(crops), self.settings.batch_size)
        attributes = predictions.heads["attributes"]
        columns = _columns(keys, predictions.heads["landmarks"])
        columns |= {name: attributes[:, column] for column, name in enumerate(self.attribute_names)}
        worn = self._worn([torso for entry in entries if entry.faces for torso in entry.torsos], result)
        return rows, FaceFeatures(columns, attributes, predictions.embedding, worn)

    def _read(
        self,
        photo: FoundPhoto,
        read: Callable[[FoundPhoto], bytes],
        result: PartitionResult,
        on_pixels: Callable[[FoundPhoto, npt.NDArray[np.uint8]], None] | None,
    ) -> _Read:
        """Read one photo; whatever is wrong with it becomes its row."""

        def timed(stage: str) -> AbstractContextManager[None]:
            return result.timed(stage, 1, "photos")

        try:
            with reading(photo.path):
                with timed("read"):
                    data = read(photo)
                faces = self.reader.read(data, timed)
        except PhotoRejectedError as error:
            return _Read(photo, {**rejected_row(photo, error), "faces": 0}, None)
        decoded = faces.photo
        if on_pixels is not None:
            with timed("thumbnails"):
                on_pixels(photo, np.asarray(decoded.preview)[..., :3])
        if not faces.boxes:
            row = no_face_row(photo, decoded, faces.too_small, self.settings.min_face_px)
            return _Read(photo, {**row, "faces": 0}, None)
        row = {**read_row(photo, decoded, Status.SCORED), "faces": len(faces.boxes)}
        torsos: tuple[npt.NDArray[np.uint8] | None, ...] = (None,) * len(faces.boxes)
        if self.garments is not None:
            with result.timed("cut", 0, "photos"):  # counted when its faces were cut
                torsos = tuple(cut_torso(decoded, box, self.garments.bundle.input_px) for box in faces.boxes)
        # Only the crops wait for the rest of the batch, not the photos that they were cut from.
        return _Read(photo, row, replace(faces, photo=replace(decoded, pixels=np.empty((0, 0, 3), np.uint8))), torsos)

    def _worn(
        self, torsos: list[npt.NDArray[np.uint8] | None], result: PartitionResult
    ) -> list[npt.NDArray[np.float32] | None]:
        """Return the embedding of each face's clothes, None where they cannot be seen."""
        worn: list[npt.NDArray[np.float32] | None] = [None] * len(torsos)
        seen = [(place, torso) for place, torso in enumerate(torsos) if torso is not None]
        if self.garments is not None and seen:
            with result.timed("clothes", len(seen), "faces"):
                crops = np.stack([torso for _, torso in seen])
                vectors = run_in_batches(self.garments, crops, self.settings.batch_size).embedding
            for (place, _), vector in zip(seen, vectors, strict=True):
                worn[place] = vector
        return worn


def _columns(keys: list[tuple[FoundPhoto, PhotoFaces, int]], landmarks: npt.NDArray[np.float32]) -> Rows:
    boxes = [faces.boxes[face] for _, faces, face in keys]
    squares = [faces.squares[face] for _, faces, face in keys]
    origins = np.array([(square.x, square.y) for square in squares])
    sides = np.array([square.side for square in squares])
    points = np.tile(origins, 5) + landmarks.astype(np.float64) * sides[:, None] - PIXEL_CENTRE_PX
    return {
        "path": [photo.path for photo, _, _ in keys],
        "photo_id": [photo.photo_id for photo, _, _ in keys],
        "face": [face for _, _, face in keys],
        "x": [box.x for box in boxes],
        "y": [box.y for box in boxes],
        "width": [box.width for box in boxes],
        "height": [box.height for box in boxes],
        "detection_score": [box.score for box in boxes],
        **{name: points[:, column] for column, name in enumerate(LANDMARKS)},
    }
