"""Weights of a whole network from a file that a job names, of any classifier and learned at any size (torch)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from stylematch.errors import UserError

Resample = Callable[[Any, Any], Any]
"""Makes of a state that was learned at another size, and a network, a state of that network."""
_LONGEST_WHY = 160
_CLASSIFIERS = ("fc.", "head.", "heads.", "head_dist.", "classifier.", "last_linear.", "AuxLogits.", "aux1.", "aux2.")
"""What the names of a classifier's weights begin with, in torchvision's networks and timm's."""


def load_weights(network: nn.Module, path: Path, resample: Resample | None = None) -> None:
    """Give a network the weights of a file, whatever classifier they had.

    Parameters
    ----------
    network : torch.nn.Module
        With or without its classifier; changed in place.
    path : pathlib.Path
        Safetensors, or what torch.save has written.
    resample : callable, optional
        For positions that were learned in pictures of another size.

    Raises
    ------
    UserError
        If there is no such file, or it holds no weights of this network.
    """
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:  # weights that were stored on a GPU, too
            state = torch.load(path, weights_only=True, map_location="cpu")
        if isinstance(state, dict):
            own = network.state_dict()
            if resample is not None and _of_other_shapes(state, own):
                state = resample(state, network)
            state = _whatever_the_classifier(state, own)
        network.load_state_dict(state)
    except FileNotFoundError as error:
        raise UserError(f'model.weights: {path} is no file; write "imagenet", "none" or the path of one.') from error
    except Exception as error:  # each format has its own exceptions, and damage has any of Python's
        raise UserError(
            f"model.weights: {path} does not hold weights of this network ({why_unloadable(error)}); name the file of "
            "a state_dict of the whole network, in safetensors or as torch.save writes it."
        ) from error


def why_unloadable(error: Exception) -> str:
    """Say in a few words why a file holds no weights; torch's own words advise to run what is in it."""
    if is_refused_pickle(error) or isinstance(error, LookupError):
        return "it is no file of torch's, or holds more than tensors"
    head, *rest = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    said = f"{head} {rest[0]}" if head.endswith(":") and rest else head  # the keys that do not fit
    return said if len(said) <= _LONGEST_WHY else f"{said[:_LONGEST_WHY]}..."


def is_refused_pickle(error: Exception) -> bool:
    """Whether it is torch's own refusal of a pickle, which is told by its name."""
    return type(error).__name__ == "UnpicklingError"


def _of_other_shapes(state: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether any weights but a classifier's have another shape."""
    shared = [key for key in state if key in own and not key.startswith(_CLASSIFIERS)]
    return any(state[key].shape != own[key].shape for key in shared)


def _whatever_the_classifier(state: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a state without a classifier of other classes: it is taken off anyway, so it need not be there either."""
    fitting = {key for key, value in state.items() if key in own and own[key].shape == value.shape}
    kept = {key: value for key, value in state.items() if key in fitting or not key.startswith(_CLASSIFIERS)}
    return {key: value for key, value in own.items() if key.startswith(_CLASSIFIERS)} | kept
