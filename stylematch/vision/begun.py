"""A training that was begun: which checkpoint it goes on from, and that its job and its data are still the same."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.settings.train import TrainJob
from stylematch.tables.disk import TEMPORARY_SUFFIX, write_durably
from stylematch.tables.shown import shown
from stylematch.vision.examples import Examples

if TYPE_CHECKING:
    from stylematch.vision.networks import Network

# What may change between a training and its going on, since it changes how it runs and not what is learned.
_RUNNING = ("compile", "devices", "workers", "log")
CHECKPOINT_LABELS = "labels"
"""Where a checkpoint names the labels of the network's heads, as ``LabelSchema.to_json`` does."""
AFTERWARDS = ("instance_share", "embedding_layer", "mirror")
"""Settings of the model that change what is made of the network, and not what is learned."""


_HASHED_AT_ONCE = 1024
_HIDDEN: Any = {"out": True, "schedule": set(_RUNNING), "model": set(AFTERWARDS)}


def steps_of(checkpoint: Path) -> int:
    """Return how many steps a checkpoint has taken; its weights are not read.

    Raises
    ------
    UserError
        If it is no whole checkpoint.
    """
    return int(_opened(checkpoint, "global_step"))


def check_whole(checkpoint: Path) -> None:
    """Refuse a checkpoint that is not what a training wrote; torch compares no checksum, and goes on with any weights.

    Raises
    ------
    UserError
        If it is absent, or a byte of it has changed.
    """
    try:
        with zipfile.ZipFile(checkpoint) as parts:
            if damaged := parts.testzip():
                raise zipfile.BadZipFile(damaged)
    except Exception as error:  # damage has any of zipfile's and Python's exceptions
        raise _not_whole(checkpoint) from error


def check_layers(checkpoint: Path, network: Network) -> None:
    """Refuse to go on with what an earlier release began, of whose backbone this one keeps other layers.

    Raises
    ------
    UserError
        If the checkpoint's weights are not the network's.
    """
    found = {key for key in _opened(checkpoint, "state_dict") if key.startswith("network.")}
    if found != {f"network.{key}" for key in network.state_dict()}:
        raise UserError(
            f"{shown(checkpoint)} is of an earlier release, whose {network.model.backbone} has other layers: name "
            f"another out, or delete {shown(checkpoint.parents[1])}."
        )


def _opened(checkpoint: Path, key: str) -> Any:
    try:
        return torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)[key]
    except Exception as error:  # damage has any of torch's and Python's exceptions
        raise _not_whole(checkpoint) from error


def _not_whole(checkpoint: Path) -> UserError:
    return UserError(
        f"{shown(checkpoint)} is no whole checkpoint: a training leaves none such, so it was changed or copied in "
        f"part. Get it again, or delete {shown(checkpoint.parents[1])}, to begin anew."
    )


def begun_checkpoint(job: TrainJob, out: Path) -> Path | None:
    """Return the checkpoint that a job would go on from, if there is one; changes nothing.

    Raises
    ------
    UserError
        If it is another job's.
    """
    note, last = out / "job.json", out / "checkpoints" / "last.ckpt"
    if last.is_file() and note.is_file():
        try:
            # Read as a job, so that settings that were added since have their defaults.
            then = TrainJob.model_validate({**json.loads(note.read_text(encoding="utf-8")), "out": job.out})
        except (ValueError, TypeError):
            then = None
        if then is None or then.model_dump(exclude=_HIDDEN) != job.model_dump(exclude=_HIDDEN):
            raise UserError(
                f"{out / 'checkpoints'} is of another job than this one ({note} tells); name another out, or delete "
                f"{out}."
            )
    return last if last.is_file() else None


def last_checkpoint(job: TrainJob, out: Path) -> Path | None:
    """Return what ``begun_checkpoint`` does, and note whose checkpoints these will be."""
    begun = begun_checkpoint(job, out)
    for unfinished in (out / "checkpoints").glob(f".*{TEMPORARY_SUFFIX}"):  # of a kill while a checkpoint was written
        unfinished.unlink(missing_ok=True)
    described = job.model_dump(mode="json", exclude=_HIDDEN)
    out.mkdir(parents=True, exist_ok=True)
    write_durably(out / "job.json", (json.dumps(described, indent=2) + "\n").encode())
    return begun


def check_data(
    schema: LabelSchema, parts: list[tuple[Examples, int]], val: Examples, out: Path, *, begun: bool
) -> None:
    """Refuse to go on, or to end, with pictures or labels that have changed, and note which these are.

    Else a training whose table was edited would end at once, and its old weights be measured on a new split: on
    pictures that they learned from.
    """
    digest, pictures = hashlib.sha256(json.dumps(schema.to_json()).encode()), hashlib.blake2b(digest_size=16)
    for part, times in (*parts, (val, 1)):
        digest.update(json.dumps([times, part.ids]).encode())
        for start in range(0, len(part), _HASHED_AT_ONCE):
            # A row of each: all would be read from the disk before the first step.
            middle = part.fields[start : start + _HASHED_AT_ONCE, part.fields.shape[1] // 2]
            pictures.update(np.ascontiguousarray(middle).data)
        for name in sorted(part.targets):
            digest.update(name.encode() + np.ascontiguousarray(part.targets[name]).tobytes())
    note, now = out / "data.json", {"sha256": digest.hexdigest(), "pictures": pictures.hexdigest()}
    if begun and note.is_file():
        try:
            then = dict(json.loads(note.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            then = {}
        # Of a training that an earlier release began, its pictures' contents are not known.
        if {"pictures": now["pictures"], **then} != now:
            raise UserError(
                f"{out / 'checkpoints'} learned from other pictures or labels than the data have now; name another "
                f"out, or delete {out}."
            )
    write_durably(note, (json.dumps(now) + "\n").encode())
