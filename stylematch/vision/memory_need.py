"""The memory that a training needs at least, by steps of a few pictures: before a whole batch takes it."""

from __future__ import annotations

from collections.abc import Sequence

import lightning
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from stylematch.settings.train import TrainJob
from stylematch.vision.batches import Batches
from stylematch.vision.examples import Examples
from stylematch.vision.networks import Network
from stylematch.vision.trainer import measuring_trainer
from stylematch.vision.training import batch_loader, prepare

_FEW = 2  # normalisation over a batch needs more than one


def least_memory(
    network: Network,
    job: TrainJob,
    parts: list[tuple[Examples, int]],
    val: Examples,
    teachers: Sequence[Network] = (),
) -> int:
    """Return how many bytes a step of a whole batch keeps for its way back.

    That grows with the batch. What comes on top of it, such as the optimiser's state and what layers compute in, does
    not, or is not kept.

    Parameters
    ----------
    network, job, parts, val, teachers
        As ``train_network`` takes them; the network is changed by two steps. Of several devices, one's share counts.

    Raises
    ------
    UserError
        If the examples do not fill a batch, or there are none to watch.
    """
    plain = job.model_copy(update={"schedule": job.schedule.model_copy(update={"compile": False})})
    fit = prepare(network, plain, parts, val, teachers, processes=job.schedule.devices)
    batch, pictures = next(iter(fit.order)), Batches([part for part, _ in parts])
    watching = batch_loader(Batches([val]), [list(range(min(_FEW, len(val))))], 0)
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

    def kept_by(count: int) -> int:
        kept: dict[int, int] = {}

        def keep(values: Tensor) -> Tensor:
            storage = values.untyped_storage()  # several layers may keep the same
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return values

        with saved_tensors_hooks(keep, lambda values: values):
            measuring_trainer(plain.schedule, lightning.Callback()).fit(
                fit.learner, batch_loader(pictures, [batch[:count]], 0), watching
            )
        return sum(kept.values())

    few, more = kept_by(_FEW), len(batch) - _FEW
    # What does not grow with the batch, such as weights that are rounded to bfloat16, is kept as well, and once.
    return few if more <= 0 else few + more * (kept_by(_FEW + 1) - few)
