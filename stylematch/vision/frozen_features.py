"""What an untuned backbone says of garments' pictures, in ONNX Runtime (torch and onnx; the train extra).

On a CPU that takes less than a third of the time that torch takes. The graph holds the whole way from bytes to
features: pictures are light on black here, as Fashion-MNIST's; they are negated back to dark on light and enlarged, as
photos of things are, then normalised, and the backbone's maps are averaged.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from stylematch.vision.backbones import load_backbone
from stylematch.vision.export import exported
from stylematch.vision.pooling import mean_features
from stylematch.vision.runtime import cpu_session

_CALL_PICTURES = 32


class FrozenFeatures:
    """A backbone's pooled features of pictures of one size.

    Parameters
    ----------
    name, weights : str
        As ``load_backbone`` takes them.
    side_px : int
        Side of the pictures.
    input_px : int
        Side to which they are enlarged.
    threads : int
        Threads that share a call's pictures; they change no bit.

    Raises
    ------
    UserError
        If there is no such backbone, or its weights cannot be had.
    """

    def __init__(self, name: str, weights: str, *, side_px: int, input_px: int, threads: int = 1) -> None:
        self.torch_form = _Pooled(name, weights, input_px).eval()
        self._side_px = side_px
        self._pool = ThreadPoolExecutor(threads)

    def run(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the features, float32 (n, features), of pictures, uint8 (n, side, side, 3)."""
        session = self._session  # made before the threads ask for it
        shares = [pictures[start : start + _CALL_PICTURES] for start in range(0, len(pictures), _CALL_PICTURES)]
        return np.concatenate(list(self._pool.map(partial(_run, session), shares)))

    @cached_property
    def _session(self) -> Any:
        """Exporting takes longer than all else before the first picture: only who has pictures waits for it."""
        example = torch.zeros((2, self._side_px, self._side_px, 3), dtype=torch.uint8)
        return cpu_session(exported(self.torch_form, example, ["features"]).model_proto.SerializeToString())


def _run(session: Any, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    features: npt.NDArray[np.float32] = session.run(None, {"pixels": np.ascontiguousarray(pictures)})[0]
    return features


class _Pooled(nn.Module):
    """From bytes to the mean of a backbone's maps."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: str, input_px: int) -> None:
        super().__init__()
        backbone = load_backbone(name, weights, input_px)
        self.input_px, self.layers, self.maps, self.norm = input_px, backbone.layers, backbone.maps, backbone.norm
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(backbone.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        values = 1 - pixels.permute(0, 3, 1, 2).float() / 255
        values = functional.interpolate(values, size=(self.input_px, self.input_px), mode="bilinear")
        values = self.layers((values - self.mean) / self.std)
        return mean_features(values, self.norm) if self.maps else values
