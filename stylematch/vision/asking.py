"""Asks a network about many pictures (torch), as they lie in memory: in batches, wherever the network is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stylematch.vision.neighbour_space import means
from stylematch.vision.networks import Network
from stylematch.vision.resizing import as_input


def logits_of(
    network: Network, pixels: npt.NDArray[np.uint8], batch_size: int = 64
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the raw outputs of every head, as the finished model gives them.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    pixels : ndarray of uint8, shape (n, side, side, channels)
        At least one picture, of any size; resized to the network's input.
    batch_size : int
        Pictures at a time.
    """
    parts: dict[str, list[npt.NDArray[np.float32]]] = {group.name: [] for group in network.schema.groups}
    for pictures in _batches(network, pixels, batch_size):
        with torch.inference_mode():
            _, heads = network.answers(pictures)
        for name, values in heads.items():
            parts[name].append(values.float().cpu().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def layer_means_of(
    network: Network, pixels: npt.NDArray[np.uint8], advance: Callable[[int], None], batch_size: int = 64
) -> npt.NDArray[np.float64]:
    """Return what a neighbour space is fitted from: means of the maps that ``model.embedding_layer`` names.

    Parameters
    ----------
    network, pixels, batch_size
        As ``logits_of`` takes them.
    advance : callable
        Told how many more pictures are done.
    """
    parts = []
    for pictures in _batches(network, pixels, batch_size):
        with torch.inference_mode():
            _, layers = network.layers_of(pictures)
            parts.append(means(layers[network.model.embedding_layer]).cpu().double().numpy())
        advance(len(pictures))
    return np.concatenate(parts)


def _batches(network: Network, pixels: npt.NDArray[np.uint8], batch_size: int) -> Iterator[Tensor]:
    for start in range(0, len(pixels), batch_size):
        batch = torch.from_numpy(np.array(pixels[start : start + batch_size])).to(network.pixel_mean.device)
        yield as_input(batch, network.model.input_px).contiguous(memory_format=torch.channels_last)
