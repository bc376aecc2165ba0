"""The training loop: Lightning's trainer over examples in memory, resumable from its last epoch.

Checkpoints are the trainer's private state, beside the job that they belong to; what leaves a training is a model
bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from stylematch.data.memory import keep_freed_memory
from stylematch.errors import UserError
from stylematch.settings.train import TrainJob
from stylematch.tables.cores import usable_cores
from stylematch.vision.asking import layer_means_of
from stylematch.vision.batches import Batch, Batches, EpochOrder
from stylematch.vision.begun import check_data, check_layers, check_whole, last_checkpoint, steps_of
from stylematch.vision.examples import Examples
from stylematch.vision.learner import Learner
from stylematch.vision.losses import SchemaLoss, label_weights, point_ranges, soft_targets
from stylematch.vision.neighbour_space import fit_space
from stylematch.vision.networks import Network
from stylematch.vision.trainer import training_trainer

logger = logging.getLogger(__name__)
WATCHED_BATCH = 128
"""Pictures of a batch that is watched, at most."""


def train_network(
    network: Network,
    job: TrainJob,
    parts: list[tuple[Examples, int]],
    val: Examples,
    out: Path,
    teachers: Sequence[Network] = (),
) -> Network:
    """Train, or go on with, a network.

    Parameters
    ----------
    network : Network
        Trained in place and returned, in evaluation mode.
    job : TrainJob
        Augmentation, loss and schedule.
    parts : list of (Examples, int)
        Training examples, and how often an epoch shows each.
    val : Examples
        Watched after each epoch, never learned from.
    out : pathlib.Path
        Checkpoints (``out/checkpoints``) and the log (``out/log``); a checkpoint found there is gone on with.
    teachers : sequence of Network
        Whose mean opinion the targets are drawn towards, as ``job.distill`` says.

    Raises
    ------
    UserError
        If the examples do not fill a batch, there are none to watch, the checkpoint is
        damaged, of another job or of other data, or the loss is no longer finite.
    """
    last, kept = last_checkpoint(job, out), out / "checkpoints" / f"{job.schedule.keep}.ckpt"
    if last is not None:
        check_whole(last)
        if not (kept.is_file() and kept.samefile(last)):  # the best is often the last, and checkpoints are large
            check_whole(kept)
        check_layers(last, network)
    check_data(network.schema, parts, val, out, begun=last is not None)
    only_points = all(group.kind == "points" for group in network.schema.groups)
    some_rest = only_points or bool(job.model.instance_dim and not job.loss.instance)
    done = 0 if last is None else steps_of(last)
    trainer = training_trainer(job.schedule, out, done, some_rest=some_rest)
    fit = prepare(network, job, parts, val, teachers, rank=trainer.global_rank, processes=trainer.world_size)
    # Lightning sets the epoch after its loader's workers have begun to fetch, which then are the first epoch's batches.
    fit.order.set_epoch(done // len(fit.order))
    if last is not None:
        logger.info("going on from %s", last)
    trainer.fit(
        fit.learner, fit.training, fit.watching, ckpt_path=None if last is None else str(last), weights_only=True
    )
    if job.schedule.keep == "best" or job.schedule.average:
        # A training that had ended before gives back the last step's weights; what is kept, their average, is stored.
        fit.learner.load_state_dict(torch.load(kept, weights_only=True, map_location="cpu")["state_dict"])
    return network.eval().cpu()


def give_space(network: Network, parts: list[tuple[Examples, int]], advance: Callable[[int], None]) -> None:
    """Fit the embedding that is read from ``model.embedding_layer`` to what a trained network learned from.

    Parameters
    ----------
    network : Network
        In evaluation mode; changed in place.
    parts : list of (Examples, int)
        As for ``train_network``.
    advance : callable
        Told how many more pictures are done.
    """
    told = [group.name for group in network.schema.groups if group.kind != "points"]
    space = network.give_space(sum(network.schema.group(name).width for name in told))
    batches = []
    for part, times in parts:
        targets = _all_targets(network, [(part, times)])
        features = layer_means_of(network, part.crops(), advance)
        batches.append((features, torch.cat([targets[name] for name in told], 1).double().numpy()))
    space.load(fit_space(batches))


@dataclass(frozen=True)
class Fit:
    """What a trainer fits: the learner, whole batches to learn from in the epochs' order, and batches to watch.

    Attributes
    ----------
    learner : Learner
        The network in training mode, with its loss and its optimiser.
    order : EpochOrder
        Which rows a batch has.
    training, watching : DataLoader of Batch
        This process's share.
    """

    learner: Learner
    order: EpochOrder
    training: DataLoader[Batch]
    watching: DataLoader[Batch]


def prepare(
    network: Network,
    job: TrainJob,
    parts: list[tuple[Examples, int]],
    val: Examples,
    teachers: Sequence[Network] = (),
    *,
    rank: int = 0,
    processes: int = 1,
) -> Fit:
    """Make of a job what a trainer fits; arguments as ``train_network`` takes them.

    Parameters
    ----------
    rank, processes : int
        Which of how many processes this is.

    Raises
    ------
    UserError
        If the examples do not fill a batch, or there are none to watch.
    """
    schedule = job.schedule
    targets = _all_targets(network, parts)
    loss = SchemaLoss(
        network.schema,
        job.loss,
        label_weights(network.schema, targets, job.data.balance_power) if job.data.balance == "weights" else {},
        point_ranges(network.schema, targets),
    )
    order = EpochOrder(
        [(len(part), times) for part, times in parts],
        schedule.batch_size,
        schedule.seed,
        _sampling_weights(network, targets, job.data.balance_power) if job.data.balance == "sampler" else None,
        rank=rank,
        processes=processes,
    )
    if len(order) == 0 or len(val) == 0:
        raise UserError(
            f"{order.total:,} pictures to learn from do not fill a batch of schedule.batch_size = "
            f"{schedule.batch_size}: lower it, or use more pictures."
            if len(val)
            else "No picture is left to watch; use more, or raise data.validation."
        )
    # As many batches for every process: Lightning refuses a process that has none.
    each = -(-len(val) // (WATCHED_BATCH * processes))
    rows = [part.tolist() for part in np.array_split(np.arange(len(val)), each * processes)]
    # Lightning leaves the mode as it finds it, and what an earlier step has trained comes in evaluation mode.
    network = network.train().to(memory_format=torch.channels_last)
    keep_freed_memory(of_any_size=True)
    return Fit(
        Learner(network, loss, job, len(order) * schedule.epochs, teachers),
        order,
        batch_loader(Batches([part for part, _ in parts]), order, schedule.workers),
        batch_loader(Batches([val]), rows[rank::processes], 0),
    )


def batch_loader(pictures: Batches, sampler: Any, workers: int) -> DataLoader[Batch]:
    """Return what fetches the batches whose rows a sampler (or a list) gives, in at most ``workers`` processes."""
    workers = min(workers, usable_cores())  # more only wait for each other, and torch warns of them
    return DataLoader(
        pictures,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _all_targets(network: Network, parts: list[tuple[Examples, int]]) -> dict[str, torch.Tensor]:
    names = [group.name for group in network.schema.groups]
    stacked = {name: torch.from_numpy(np.concatenate([part.targets[name] for part, _ in parts])) for name in names}
    return soft_targets(network.schema, stacked)


def _sampling_weights(network: Network, targets: dict[str, torch.Tensor], power: float) -> npt.NDArray[np.float64]:
    """Return for every picture how rare its labels are: the mean of its known labels' weights, over all groups.

    Of yes and no the weight is what a yes counts beside a no, and here both are drawn: each by its square root.
    """
    weights = label_weights(network.schema, targets, power)
    rarity = [
        torch.where(target.isnan(), torch.nan, target * weights[name].sqrt() + (1 - target) / weights[name].sqrt())
        if network.schema.group(name).kind == "binary"
        else torch.where(target.isnan(), torch.nan, target * weights[name]).sum(1, keepdim=True)
        for name, target in targets.items()
        if name in weights
    ]
    chances = torch.cat(rarity, 1).nanmean(1).nan_to_num(1.0)
    return chances.double().numpy()
