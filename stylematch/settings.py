"""Job files: TOML in, validated and frozen settings out; every error names the file, the key and the fix.

A job file describes one thing that a person schedules: a training (``TrainJob``) or the embedding of a data
set (``EmbedJob``). Relative paths in it are relative to the working directory, so that a job file can be
copied.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stylematch.errors import UserError

# Strict, so that true is no 1 and "32" no 32; TOML and Python also know inf and nan, which no setting means.
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Positive = Annotated[float, Field(gt=0.0, strict=True)]
NotNegative = Annotated[float, Field(ge=0.0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, le=2**32, strict=True)]

OPTIONS = "options"

_BACKBONE_FOR = {"celeba": "mobilenet_v2", "fashion-mnist": "small_resnet"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainData(_Section):
    """Which pictures to learn from.

    Attributes
    ----------
    dataset : str
        ``celeba`` or ``fashion-mnist``.
    root : str, optional
        Its folder; by default ``$STYLEMATCH_DATA`` or ``../shared/data`` (CelebA), or as found
        (Fashion-MNIST).
    wild : bool
        Also learn from ``celeba_wild``, cropped around what the face finder finds (CelebA).
    wild_repeat : int
        How often each wild picture is seen in an epoch.
    limit : int, optional
        Only the first so many pictures of each part, for a quick try.
    """

    dataset: Literal["celeba", "fashion-mnist"]
    root: str | None = None
    wild: bool = True
    wild_repeat: Count = 1
    limit: Count | None = None


class Model(_Section):
    """The network: a backbone, an embedding and one linear head per label group.

    Attributes
    ----------
    backbone : str
        ``mobilenet_v2`` or ``small_resnet``.
    weights : str
        What the backbone starts from: ``imagenet`` or ``none``.
    start_from : str, optional
        A model bundle of the same architecture whose weights the whole network starts from instead.
    input_px : int
        Side of the input.
    embedding_dim : int
        Length of the embedding.
    dropout : float
        Share of the features dropped while training.
    """

    backbone: Literal["mobilenet_v2", "small_resnet"]
    weights: Literal["imagenet", "none"] = "none"
    start_from: str | None = None
    input_px: Annotated[int, Field(ge=16, le=1024, strict=True)]
    embedding_dim: Annotated[int, Field(ge=2, le=4096, strict=True)]
    dropout: Fraction = 0.0


class Augment(_Section):
    """Random changes of the training pictures; 0 is off.

    Attributes
    ----------
    flip, grayscale, erase : float
        Shares of the pictures that are mirrored, made grey, or have a rectangle erased.
    shift : float
        Fraction of the crop's side, either way; rounded to whole pixels, which blurs nothing.
    zoom, rotate_degrees : float
        Largest change, for the share ``warp`` of the pictures: resampling blurs what others keep sharp.
    brightness, contrast, saturation : float
        Largest change.
    mixup : float
        Share of the pictures that are blended with another, labels included.
    """

    flip: Fraction = 0.5
    shift: Fraction = 0.0
    zoom: Fraction = 0.0
    rotate_degrees: Annotated[float, Field(ge=0.0, le=180.0, strict=True)] = 0.0
    warp: Fraction = 1.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    grayscale: Fraction = 0.0
    erase: Fraction = 0.0
    mixup: Fraction = 0.0


class Schedule(_Section):
    """AdamW under a one-cycle learning rate (Smith and Topin, 2018)."""

    epochs: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NotNegative = 0.01
    warmup: Fraction = 0.2
    label_smoothing: Fraction = 0.0
    clip_norm: NotNegative = 0.0
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    seed: Seed = 0


class Distill(_Section):
    """Soft targets from a trained model.

    Attributes
    ----------
    teacher : str
        A model bundle that knows the same labels.
    weight : float
        Its share of every target; the label has the rest.
    """

    teacher: str
    weight: Fraction = 0.5


class TrainJob(_Section):
    """One training: ``stylematch-batch train JOB.toml``."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    out: str
    data: TrainData
    model: Model
    augment: Augment = Augment()
    schedule: Schedule
    distill: Distill | None = None

    @model_validator(mode="after")
    def _model_fits_data(self) -> Self:
        dataset, backbone, input_px = self.data.dataset, self.model.backbone, self.model.input_px
        if backbone != _BACKBONE_FOR[dataset]:
            raise ValueError(f"model.backbone: {dataset} needs '{_BACKBONE_FOR[dataset]}', not '{backbone}'")
        if dataset == "fashion-mnist" and input_px != 28:
            raise ValueError(f"model.input_px: fashion-mnist's pictures need 28, not {input_px}")
        if dataset == "celeba" and input_px % 8:  # so that a field is whole pixels wider on every side
            raise ValueError(f"model.input_px: must be a multiple of 8, not {input_px}")
        return self


class EmbedJob(_Section):
    """One embedding of a data set and the index over it: ``stylematch-batch embed JOB.toml``.

    Attributes
    ----------
    source : str
        ``celeba``, ``fashion-mnist`` or a directory of pictures.
    bundle : str, optional
        The model bundle that embeds; by default the shipped one.
    embeddings : str
        Where the Parquet shards go.
    index : str, optional
        Where the FAISS index over them goes; none is built without it.
    splits : list of str
        Which splits of the data set.
    root : str, optional
        The data set's folder, where it is not at its usual place.
    faces : {"find", "aligned"}
        How faces are had from a directory of pictures.
    batch_size : int
        Pictures a batch.
    """

    source: str
    bundle: str | None = None
    embeddings: str
    index: str | None = None
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    root: str | None = None
    faces: Literal["find", "aligned"] = "find"
    batch_size: Count = 64


class ScoreSettings(_Section):
    """What ``score`` was asked for; those that change the tables are part of the run's name.

    Attributes
    ----------
    top_k : int
        Items per face.
    rules : str
        A shipped rule set's name or a TOML file.
    faces : {"find", "aligned"}
        Search for faces, or take every picture for a face crop.
    min_face_px : int
        Smallest side of a face that counts, in pixels of the upright photo.
    max_megapixels, max_file_mb : float
        Larger photos are rejected.
    limit : int, optional
        Only the first so many photos.
    seed : int
        Varies the choice among typical items.
    device : {"auto", "cpu", "cuda"}
        Where the model runs.
    batch_size, workers : int
        Photos a batch, and processes; 0 workers is one per core.
    report : bool
        Write the gallery.
    follow_links : bool
        Follow symbolic links among the photos.
    overwrite : bool
        Write a run again that is already there.
    max_reject_share : float, optional
        Over this share of rejected photos the run ends with exit code 4.
    """

    top_k: Count = 5
    rules: str = "classic"
    faces: Literal["find", "aligned"] = "find"
    min_face_px: Annotated[int, Field(ge=1)] = 24
    max_megapixels: Positive = 200.0
    max_file_mb: Positive = 200.0
    limit: Count | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Count = 32
    workers: Annotated[int, Field(ge=0)] = 0
    report: bool = True
    follow_links: bool = False
    overwrite: bool = False
    max_reject_share: Fraction | None = None

    def naming(self) -> dict[str, object]:
        """Return the settings that change the tables, as plain values; the others leave no trace in them."""
        kept = (
            "top_k",
            "faces",
            "min_face_px",
            "max_megapixels",
            "max_file_mb",
            "limit",
            "seed",
            "follow_links",
        )
        return {name: getattr(self, name) for name in kept}


Job = TypeVar("Job", bound=_Section)


def load_job(path: Path, kind: type[Job]) -> Job:
    """Read and validate a job file.

    Parameters
    ----------
    path : pathlib.Path
        A TOML file.
    kind : type
        The settings class it must satisfy.

    Raises
    ------
    UserError
        If the file is missing or not TOML, or a key is unknown, missing or out of range; all such keys are
        named.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"The job file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"The job file {path} cannot be read: {error}.") from error
    return validated(kind, str(path), **data)


def validated(kind: type[Job], where: str, /, **values: Any) -> Job:
    """Check values against a settings class.

    Parameters
    ----------
    kind : type
        The settings class.
    where : str
        What an error names as their place: a job file, or ``OPTIONS`` for the command line's.
    **values
        The settings.

    Raises
    ------
    UserError
        If a key is unknown, missing or out of range; all such keys are named.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_advice(dict(fault), where) for fault in error.errors())
        raise UserError(f"{where}: {faults}.") from error


def _advice(fault: dict[str, Any], where: str) -> str:
    """Turn one of pydantic's faults into the key and what to do about it."""
    key = ".".join(str(part) for part in fault["loc"])
    if where == OPTIONS:
        key = f"--{key.partition('.')[0].replace('_', '-')}"
    if fault["type"] == "extra_forbidden":
        return f"{key}: is no setting; remove it or mend its spelling"
    if fault["type"] == "missing":
        return f"{key}: is missing; set it"
    if fault["type"] == "value_error":  # raised above, and names the key itself
        return str(fault["ctx"]["error"])
    return f"{key}: {fault['msg'][0].lower()}{fault['msg'][1:]}, not {fault['input']!r}"


def data_root() -> Path:
    """Return the folder of the real data sets: ``$STYLEMATCH_DATA``, or ``../shared/data`` without it."""
    return Path(os.environ.get("STYLEMATCH_DATA", "../shared/data"))
