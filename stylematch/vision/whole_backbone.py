"""Makes a trained backbone one of whole numbers (``vision/whole_numbers``): folds, and places the grids.

Batch normalisation is folded into the convolutions before it. Its statistics, which say where a map's values lie, place
the map's grid, so no picture is needed for it. Channels whose values spread little are counted in smaller units, so
that each uses the whole grid; units go into the weights before and after (both: Nagel et al., "Data-Free Quantization
through Weight Equalization and Bias Correction", ICCV 2019). What is added to a map is taken for independent of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.mobilenetv2 import InvertedResidual

from stylematch.errors import UserError
from stylematch.vision.whole_numbers import PIXEL_ZERO, Grid, PixelGrid, WholeBlock, WholeConvolution

# Of a channel's values, where its grid ends: what lies further is given the grid's last number. They are no Gaussians:
# of 4, 6, 8, 11 and 15, 8 changes the logits of the attribute model least.
_DEVIATIONS = 8.0
_RELU6 = 6.0
# Channels that hardly say anything are not blown up to the whole grid.
_LEAST_SHARE, _LEAST_END = 1e-3, 1e-6


def in_whole_numbers(name: str, layers: nn.Sequential, mean: Tensor, std: Tensor) -> nn.Sequential:
    """Return a backbone's layers in whole numbers, which take pixels, not normalised values.

    Parameters
    ----------
    name : str
        Of the backbone.
    layers : torch.nn.Sequential
        Its children.
    mean, std : Tensor of float32, shape (channels,)
        Statistics that its input was normalised with.

    Raises
    ------
    UserError
        If it is another than MobileNetV2.
    """
    if name != "mobilenet_v2":
        raise UserError(f"model.int8: {name} does not compute in whole numbers, mobilenet_v2 does; set it to false.")
    grid = PixelGrid()
    pixels = _Map(grid, 1 / (255 * grid.step * std), (PIXEL_ZERO / 255 - mean) / std)
    first, *rest, last = layers
    blocks = [block for block in rest if isinstance(block, InvertedResidual)]
    stem, at = _rectified([_parts(first)], pixels)
    made = [WholeBlock(stem, None, at.units)]
    for block, total, units in zip(blocks, *_totals(blocks), strict=True):
        whole, at = _block(block, at, total, units)
        made.append(whole)
    top, at = _rectified([_parts(last)], at)
    return nn.Sequential(*made, WholeBlock(top, None, at.units))


@dataclass(frozen=True)
class _Moments:
    """Where a map's values lie, by channel, as the statistics of batch normalisation say: float32 (channels,)."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def after(cls, norm: nn.Module) -> _Moments:
        assert isinstance(norm, nn.BatchNorm2d)
        return cls(norm.bias.detach(), norm.weight.detach().abs())

    def plus(self, other: _Moments) -> _Moments:
        """Return those of a sum of two maps that are independent of each other."""
        return _Moments(self.mean + other.mean, torch.hypot(self.deviation, other.deviation))

    def ends(self, *, rectified: bool) -> Tensor:
        """Return up to where each channel's numbers are to go."""
        far = _DEVIATIONS * self.deviation
        ends = (self.mean + far).clamp_max(_RELU6) if rectified else self.mean.abs() + far
        return ends.clamp_min(max(float(ends.max()) * _LEAST_SHARE, _LEAST_END))


@dataclass(frozen=True)
class _Map:
    """A map in whole numbers: a value is its number times the grid's step times its channel's unit, from a zero on."""

    grid: Grid
    units: Tensor
    zeros: Tensor | None = None

    @classmethod
    def rectified(cls, moments: _Moments) -> _Map:
        """Return one from 0 up, where every channel uses the whole grid."""
        return cls(Grid(1.0, signed=False), moments.ends(rectified=True))

    @classmethod
    def summed(cls, moments: _Moments, units: Tensor) -> _Map:
        """Return one with the units of the maps that it is added to."""
        return cls(Grid(float((moments.ends(rectified=False) / units).max()), signed=True), units)


def _totals(blocks: Sequence[InvertedResidual]) -> tuple[list[_Moments], list[Tensor]]:
    """Return what each block gives, sums included, and its units."""
    totals: list[_Moments] = []
    for block in blocks:
        own = _Moments.after(block.conv[-1])
        totals.append(totals[-1].plus(own) if block.use_res_connect else own)
    # Maps that are added to each other share their channels' units: those of the last sum, which spreads most.
    units = [totals[-1].ends(rectified=False)]
    for total, following in zip(totals[-2::-1], blocks[:0:-1], strict=True):
        units.insert(0, units[0] if following.use_res_connect else total.ends(rectified=False))
    return totals, units


def _block(block: InvertedResidual, given: _Map, total: _Moments, units: Tensor) -> tuple[WholeBlock, _Map]:
    *widening, convolution, norm = block.conv
    layers, at = _rectified([_parts(layer) for layer in widening], given)
    found = _Map.summed(_Moments.after(norm), units)
    layers.append(_between(convolution, norm, at, found))
    if not block.use_res_connect:
        return WholeBlock(layers, None, units), found
    gives = _Map.summed(total, units)
    return WholeBlock(layers, gives.grid, units), gives


def _rectified(parts: Iterable[tuple[nn.Module, nn.Module]], at: _Map) -> tuple[list[WholeConvolution], _Map]:
    """Return convolutions in a row that end at 0, and what the last one gives."""
    layers = []
    for convolution, norm in parts:
        gives = _Map.rectified(_Moments.after(norm))
        layers.append(_between(convolution, norm, at, gives))
        at = gives
    return layers, at


def _parts(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return a convolution and its normalisation, without what rectifies both."""
    assert isinstance(layer, nn.Sequential)
    return layer[0], layer[1]


def _between(convolution: nn.Module, norm: nn.Module, given: _Map, gives: _Map) -> WholeConvolution:
    """Return a convolution of values, and its normalisation, as one of whole numbers."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fuse_conv_bn_eval(convolution.eval(), norm.eval())
    assert folded.bias is not None
    with torch.no_grad():
        if given.zeros is not None:
            folded.bias += (folded.weight * given.zeros.view(1, -1, 1, 1)).sum((1, 2, 3))
        taken = given.units.view(1, -1, 1, 1) if folded.groups == 1 else given.units.view(-1, 1, 1, 1)
        folded.weight *= taken / gives.units.view(-1, 1, 1, 1)
        folded.bias /= gives.units
    return WholeConvolution(folded, given.grid, gives.grid)
