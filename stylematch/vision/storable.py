"""What a bundle can hold: it stores float16, to which a finished network is rounded.

A training whose weights are beyond that is told early.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping

import torch

from stylematch.errors import UserError

logger = logging.getLogger(__name__)
CALMER = "lower schedule.learning_rate or set schedule.clip_norm, and train again into another out"
"""What to do where a training diverges."""


def beyond_storing(state: Mapping[str, torch.Tensor]) -> str | None:
    """Return the first weight, by name, with a value that float16 (in which bundles store) cannot hold, if there is."""
    largest = torch.finfo(torch.float16).max
    for key, value in sorted(state.items()):
        # Written so that a NaN is beyond it, too.
        if value.is_floating_point() and value.numel() and not value.detach().abs().max() <= largest:
            return key
    return None


def round_to_stored(network: torch.nn.Module) -> None:
    """Round a network's weights and statistics, in place, to what a bundle stores of them.

    Parameters
    ----------
    network : torch.nn.Module
        Wherever it is. It keeps its types: its numbers become such as float16 can hold.

    Raises
    ------
    UserError
        If one is beyond float16: the training diverged, and the same one would again.
    """
    own = network.state_dict()
    if (key := beyond_storing(own)) is not None:
        raise UserError(
            f"{key} has values that float16 (as bundles store them) cannot hold: the training diverged. "
            f"{CALMER.capitalize()}."
        )
    for value in own.values():
        if value.is_floating_point():
            value.copy_(value.to(torch.float16))


def check_storable(
    state: Mapping[str, torch.Tensor], learned: Container[str], epoch: int, advice: Callable[[], str]
) -> None:
    """Refuse what an epoch has learned, if no bundle could hold it; of statistics, which may come back, only warn.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights and statistics.
    learned : container of str
        Which of them are weights.
    epoch : int
        How many are done.
    advice : callable
        Says what to do; asked only where something is beyond storing.

    Raises
    ------
    UserError
        If all later epochs would be in vain.
    """
    for are_learned in (True, False):
        key = beyond_storing({key: value for key, value in state.items() if (key in learned) == are_learned})
        if key is None:
            continue
        said = f"after epoch {epoch}, {key} has values that float16, in which bundles store, cannot hold"
        if are_learned:
            raise UserError(f"{said}: the training diverges. {advice()}")
        logger.warning("%s: if the training ends so, no bundle can be written. %s", said, advice())
