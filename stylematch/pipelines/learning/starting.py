"""The networks that a training starts from and listens to: new, of a bundle, or of teachers' bundles.

``check_networks`` looks at all of them without making the training's own, so that a mistake is told before pictures are
cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.settings.train import TrainJob
from stylematch.tables.shown import shown
from stylematch.vision.bundle import Bundle

if TYPE_CHECKING:
    from stylematch.vision.networks import Network


def check_networks(job: TrainJob) -> None:
    """Look at what a job starts from and listens to.

    Raises
    ------
    UserError
        If the backbone, its weights or a bundle are missing or do not fit; the key is named.
    """
    from stylematch.vision.networks import Network

    bare = Network(job.model.model_copy(update={"instance_dim": 0, "embedded": ()}), LabelSchema(()))
    for step in job.in_steps():
        bare.freeze(step.model.frozen)
    if job.model.embedding_layer:
        bare.give_space(1)
    if job.model.start_from is not None and not _is_checkpoint(job.model.start_from):
        _named_bundle("model.start_from", job.model.start_from)
    _teacher_bundles(job)


def first_network(job: TrainJob, schema: LabelSchema) -> Network:
    """Return the network that a training starts from: it follows from the job's seed, its weights or its bundle.

    Raises
    ------
    UserError
        If the bundle has another architecture or other labels.
    """
    import torch

    from stylematch.vision.begun import AFTERWARDS
    from stylematch.vision.networks import Network
    from stylematch.vision.stored_network import architecture, load_network

    torch.manual_seed(job.schedule.seed)
    if job.model.start_from is None:
        return Network(job.model, schema)
    if _is_checkpoint(job.model.start_from):
        network = Network(job.model, schema)
        _load_checkpoint(network, Path(job.model.start_from))
        return network
    bundle = _named_bundle("model.start_from", job.model.start_from)
    started = load_network(bundle, job.model.dropout)
    # One that was trained in 32 bits may learn to compute in eight.
    network = Network(job.model.model_copy(update={"int8": job.model.int8 and started.model.int8}), schema)
    started.space = None  # it follows from the layers, and is fitted again after the training
    found, wanted = (
        {key: value for key, value in architecture(one).items() if key not in AFTERWARDS} for one in (started, network)
    )
    if bundle.schema != schema or found != wanted:
        raise UserError(
            f"model.start_from: {shown(bundle.directory)} has another architecture or other labels than this job; name "
            "the bundle of a job with the same model and data set."
        )
    network.load_state_dict(started.state_dict())
    if job.model.int8 and not started.model.int8:
        network.take_whole_numbers()
    return network


def started_schema(job: TrainJob) -> LabelSchema | None:
    """Return the label groups of what a job starts from; None of a new network, or where a checkpoint does not say.

    Raises
    ------
    UserError
        If it is no bundle and no checkpoint.
    """
    if job.model.start_from is None:
        return None
    if not _is_checkpoint(job.model.start_from):
        return _named_bundle("model.start_from", job.model.start_from).schema
    import torch

    from stylematch.vision.begun import CHECKPOINT_LABELS

    try:
        stored = torch.load(job.model.start_from, weights_only=True, map_location="cpu", mmap=True)
        return LabelSchema.from_json(stored[CHECKPOINT_LABELS])
    except Exception:  # of an earlier release, or damaged, which is told where its weights are taken
        return None


def load_teachers(job: TrainJob, schema: LabelSchema) -> list[Network]:
    """Return the networks that a training listens to.

    Raises
    ------
    UserError
        If a teacher has other labels, or too few groups of them.
    """
    from stylematch.vision.networks import Network
    from stylematch.vision.stored_network import load_network

    teachers = []
    for bundle in _teacher_bundles(job):
        if bundle is None:
            teachers.append(Network(job.model.model_copy(update={"frozen": "none"}), schema))
            continue
        if any(group not in bundle.schema.groups for group in schema.groups):
            raise UserError(
                f"distill.teachers: {shown(bundle.directory)} has other labels than this job; name bundles of jobs on "
                "the same data set."
            )
        teachers.append(load_network(bundle))
    return teachers


def _is_checkpoint(place: str) -> bool:
    return place.endswith(".ckpt") and Path(place).is_file()


def _load_checkpoint(network: Network, checkpoint: Path) -> None:
    """Take the weights of a training that was stopped: of one whose loss was no longer finite, the last good ones."""
    import torch

    from stylematch.vision.begun import CHECKPOINT_LABELS

    try:
        stored = torch.load(checkpoint, weights_only=True, map_location="cpu")
        state, labels = stored["state_dict"], network.schema.to_json()
        if stored.get(CHECKPOINT_LABELS, labels) != labels:  # those of releases before this one do not say
            raise ValueError("other labels")
        own = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
        network.load_state_dict(own)
    except Exception as error:  # damage has any of torch's and Python's exceptions
        raise UserError(
            f"model.start_from: {shown(checkpoint)} is no checkpoint of a training with this job's model and labels; "
            "name one, or a bundle."
        ) from error


def _named_bundle(key: str, place: str) -> Bundle:
    """Open a bundle that a setting names; the setting is said where it cannot be."""
    path = Path(place)
    if not path.is_dir():
        raise UserError(f"{key}: there is no bundle at {shown(path)}; train the job that makes it, or name another.")
    try:
        return Bundle.open(path)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def _teacher_bundles(job: TrainJob) -> list[Bundle | None]:
    """Return the bundles that a job listens to; None is an untrained network."""
    named = () if job.distill is None else job.distill.teachers
    return [None if teacher == "none" else _named_bundle("distill.teachers", teacher) for teacher in named]
