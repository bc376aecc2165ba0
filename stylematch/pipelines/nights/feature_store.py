"""Kept features: what models said of a photo's contents, as Parquet, keyed by photo_id.

- They lie in ``store/features-FINGERPRINT``, where the fingerprint names all that they follow from; so what another
  model, face finder or release made is never mistaken for them.
- A shard is two files of one name, ``faces/NAME.parquet`` and then ``photos/NAME.parquet``: it is there when the
  second is. A row of ``photos`` says where it stands (shard, row) and where its faces begin.
- ``store/files`` says which file (path, bytes, stamp) had which contents when the last snapshot was published,
  ``store/pending`` the same of what was read since. A file of which nothing has changed need not be read.
- Names are never used twice, so a shard never changes, and a run that was killed leaves whole shards to go on from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from stylematch.data.heif import has_heif
from stylematch.pipelines.face_features import FaceFeatures, Rows
from stylematch.pipelines.run_spec import RunSpec
from stylematch.tables.contract import BOX, LANDMARKS, faces_schema, photos_schema
from stylematch.tables.environment import FAISS_FOR_GPU, package_versions, sources_sha256
from stylematch.tables.manifest import json_sha256
from stylematch.tables.place import Place
from stylematch.tables.shards import shard_path
from stylematch.tables.writer import ShardWriter

FILES, PENDING = "store/files", "store/pending"
ROW_GROUP_ROWS = 512
MAX_SHARD_PHOTOS = 4096
_LAYOUT = 2  # raised with every change of what a shard's columns are
PHOTO_COLUMNS = ("width", "height", "format", "status", "reason", "message", "faces")
# What these packages do comes after the features, or never touches a picture.
_NO_PART_IN_FEATURES = ("duckdb", "faiss-cpu", *FAISS_FOR_GPU, "pandas", "pyarrow", "pydantic", "tqdm", "typer")
# The modules that have a say in a feature, one by one: training, catalogues and label files may change without it.
_DATA = ("damage", "decode", "heif", "labels", "looks", "magic", "photo_file", "photos", "preview", "rgb", "upright")
_VISION = ("bfloat16", "bundle", "crops", "face_reader", "faces", "garments", "runtime", "yunet")
_TORCH = (
    "backbones",
    "mirror",
    "neighbour_space",
    "networks",
    "point_head",
    "pooling",
    "resizing",
    "small_resnet",
    "stored_network",
    "weights_file",
    "whole_backbone",
    "whole_numbers",
)
SOURCES = (
    *(f"data/{name}.py" for name in _DATA),
    *(f"vision/{name}.py" for name in (*_VISION, *_TORCH)),
    "pipelines/face_features.py",
    "pipelines/listed_photos.py",
)


def fingerprint(spec: RunSpec) -> dict[str, Any]:
    """Return all that a photo's features follow from, besides its bytes, as plain values.

    The face finder and its settings, the two models with their crops, the device and the packages that run them, what
    pictures can be read, and the code that does it.
    """
    settings, device = spec.settings, spec.device
    no_part = _NO_PART_IN_FEATURES if device == "cpu-bf16" else (*_NO_PART_IN_FEATURES, "openvino")
    return {
        "layout": _LAYOUT,
        "faces": settings.faces,
        "min_face_px": settings.min_face_px,
        "max_megapixels": settings.max_megapixels,
        "max_file_mb": settings.max_file_mb,
        "attributes": spec.assets.attributes.sha256,
        "garments": spec.assets.garments.sha256,
        "device": device,
        "heic": has_heif(),
        "packages": {n: v for n, v in package_versions().items() if n not in no_part},
        "sources": sources_sha256(*SOURCES),
    }


def files_schema() -> pa.Schema:
    """Return the schema of what is known of files; ``seen`` is when, in nanoseconds since 1970.

    A file without a photo_id has a reason and a message instead, but for those that are too large to be read.
    """
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("bytes", pa.int64(), nullable=False),
            pa.field("stamp", pa.string(), nullable=False),
            pa.field("photo_id", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("message", pa.string()),
            pa.field("seen", pa.int64(), nullable=False),
        ]
    )


def photo_features_schema() -> pa.Schema:
    """Return the schema of a shard's photos: what ``photos`` says of their contents, and where all stands."""
    kept = [photos_schema().field(name) for name in PHOTO_COLUMNS]
    return pa.schema(
        [
            pa.field("photo_id", pa.string(), nullable=False),
            pa.field("shard", pa.string(), nullable=False),
            pa.field("row", pa.int32(), nullable=False),
            pa.field("first_face", pa.int32(), nullable=False),
            *kept,
            pa.field("has_thumbnail", pa.bool_(), nullable=False),
            pa.field("thumbnail", pa.binary()),
        ]
    )


@dataclass(frozen=True)
class FeatureStore:
    """The features of one fingerprint.

    Attributes
    ----------
    place : Place
        OUT.
    key : str
        The fingerprint's digest.
    attribute_names : tuple of str
        The attribute model's labels.
    embedding_dim, worn_dim : int
        Lengths of the two embeddings.
    """

    place: Place
    key: str
    attribute_names: tuple[str, ...]
    embedding_dim: int
    worn_dim: int

    @classmethod
    def of(cls, place: Place, spec: RunSpec) -> FeatureStore:
        """Return the store of what a run's settings and models make."""
        assets = spec.assets
        return cls(
            place,
            json_sha256(fingerprint(spec)),
            assets.attribute_names,
            assets.attributes.embedding_dim,
            assets.garments.embedding_dim,
        )

    @property
    def folder(self) -> str:
        """Where the shards lie in OUT."""
        return f"store/features-{self.key[:16]}"

    def shards(self) -> list[str]:
        """Return the names of the shards that are there."""
        return [name for name in self.place.list(f"{self.folder}/photos") if name.endswith(".parquet")]

    def faces_schema(self) -> pa.Schema:
        """Return the schema of a shard's faces."""
        table = faces_schema(self.attribute_names, self.embedding_dim)
        kept = [table.field(name) for name in ("photo_id", "face", *BOX, *LANDMARKS, *self.attribute_names)]
        # Of no fixed length: Arrow before its release 26 cannot read such a list where it is null.
        return pa.schema([*kept, table.field("embedding"), pa.field("worn", pa.list_(pa.float32()))])

    def remove_shard(self, name: str) -> None:
        """Remove a shard, what makes it count first."""
        self.place.remove(f"{self.folder}/photos/{name}")
        self.place.remove(f"{self.folder}/faces/{name}")

    def remove_halves(self, tonight: str) -> None:
        """Remove the faces of shards that do not count: a kill between the two moves of ``publish`` left them.

        Those that were begun later than ``tonight``, a night's name, may be of a night that is under way.
        """
        whole = set(self.shards())
        for name in self.place.list(f"{self.folder}/faces"):
            if name not in whole and name < f"{tonight}~":
                self.place.remove(f"{self.folder}/faces/{name}")

    def remove_others(self) -> None:
        """Remove the features of every other fingerprint."""
        for name in self.place.list("store"):
            if name.startswith("features-") and f"store/{name}" != self.folder:
                self.place.remove(f"store/{name}")


class FeatureDraft:
    """A shard that is being written on this machine; it is in the store when ``publish`` has returned.

    Parameters
    ----------
    store : FeatureStore
        Where it will go.
    name : str
        The shard's name, never used before.
    scratch : pathlib.Path
        An empty folder, on OUT's disk if OUT is on this machine.
    """

    def __init__(self, store: FeatureStore, name: str, scratch: Path) -> None:
        self._store, self._name, self._scratch = store, f"{name}.parquet", scratch
        rows = ROW_GROUP_ROWS
        self._photos = ShardWriter(scratch / "photos", 0, photo_features_schema(), row_group_rows=rows)
        self._faces = ShardWriter(scratch / "faces", 0, store.faces_schema(), row_group_rows=rows)

    def __enter__(self) -> FeatureDraft:
        self._photos.__enter__()
        self._faces.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._faces.__exit__(kind, error, trace)
        self._photos.__exit__(kind, error, trace)

    @property
    def photos(self) -> int:
        """How many photos it holds."""
        return self._photos.rows

    def add(self, photos: Rows, faces: FaceFeatures, thumbnails: dict[str, bytes]) -> None:
        """Append what ``FeatureExtractor.extract`` returned, and thumbnails by photo_id."""
        pictures = [thumbnails.get(photo_id) for photo_id in photos["photo_id"]]
        if len(faces):
            columns = {name: faces.columns[name] for name in self._store.faces_schema().names[:-2]}
            self._append(columns | {"embedding": faces.embedding, "worn": faces.worn}, photos, pictures)
        else:
            self._append(None, photos, pictures)

    def add_rows(self, photos: pa.Table, faces: pa.Table) -> None:
        """Append rows of other shards, the faces in the order of their photos."""
        kept = {name: column_of(photos, name) for name in ("photo_id", *PHOTO_COLUMNS)}
        columns = {name: column_of(faces, name) for name in self._store.faces_schema().names}
        self._append(columns, kept, column_of(photos, "thumbnail"))

    def _append(self, faces: Any, photos: Any, thumbnails: Any) -> None:
        counts = np.asarray(photos["faces"], np.int32)
        rows = len(counts)
        columns = {name: photos[name] for name in ("photo_id", *PHOTO_COLUMNS)}
        columns |= {
            "shard": [self._name] * rows,
            "row": np.arange(self._photos.rows, self._photos.rows + rows, dtype=np.int32),
            "first_face": (self._faces.rows + np.cumsum(counts) - counts).astype(np.int32),
            "has_thumbnail": [bool(picture) for picture in thumbnails]
            if isinstance(thumbnails, list)
            else thumbnails.is_valid(),
            "thumbnail": thumbnails,
        }
        if faces is not None:
            self._faces.write(faces)
        self._photos.write(columns)

    def publish(self) -> None:
        """Move the two finished files into the store; the photos come last, for they make the shard count."""
        folder = self._store.folder
        for table in ("faces", "photos"):
            self._store.place.take(shard_path(self._scratch / table, 0), f"{folder}/{table}/{self._name}")


def column_of(table: pa.Table, name: str) -> pa.Array:
    """Return a column in one piece."""
    column = table.column(name)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
