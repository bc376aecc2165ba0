"""A backbone that computes in whole numbers of eight bits: what it computes, how it learns, how its graph says so.

Every map lies on a grid: whole numbers times one step (``vision/whole_backbone`` places them). Weights of a convolution
lie on a grid for each of its outputs; while they learn, gradients pass the rounding as if it were none (Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018).

Finished, a convolution multiplies and adds whole numbers, whose sums are exact in 32-bit floats, too: processors,
runtimes and GPUs agree, however they order a sum. Weights have seven bits, for processors with AVX2 alone add two
products in sixteen bits, which two of eight could exceed; depthwise convolutions are not computed so, and have eight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# What lies around a picture: zeros of the first convolution, whose input is a pixel less this.
PIXEL_ZERO = 116
# So that the first weights are as large as others, and learn at the same pace.
_PIXEL_STEP = 2.0**-8

_WEIGHT_LIMIT, _DEPTHWISE_LIMIT = 63, 127
_SMALLEST_STEP = 2.0**-14


class Grid(nn.Module):
    """Whole numbers of eight bits times a step.

    Parameters
    ----------
    largest : float
        What the largest of them is to be, about: a bundle stores the step as float16.
    signed : bool
        From -128 to 127, or from 0 to 255.
    """

    step: Tensor

    def __init__(self, largest: float, *, signed: bool) -> None:
        super().__init__()
        self.low, self.high = (-128, 127) if signed else (0, 255)
        step = torch.tensor(max(largest / self.high, _SMALLEST_STEP))
        self.register_buffer("step", step.to(torch.float16).float())

    def forward(self, values: Tensor) -> Tensor:
        """Return values moved to the grid; their gradients pass, but of those beyond its ends."""
        if torch.onnx.is_in_onnx_export():
            zero = torch.tensor(-self.low, dtype=torch.uint8)
            return _dequantized(_quantized(values, self.step, zero), self.step, zero)
        inside = functional.hardtanh(values.float() / self.step, self.low, self.high)
        return _rounded(inside) * self.step

    def numbers(self, values: Tensor) -> Tensor:
        """Return the whole numbers, as floats, of values that lie on the grid."""
        return (values / self.step).round()


class PixelGrid(Grid):
    """What ``pixel_numbers`` gives: differences to what lies around a picture, in 256ths."""

    def __init__(self) -> None:
        super().__init__(127 * _PIXEL_STEP, signed=True)


def pixel_numbers(pictures: Tensor) -> Tensor:
    """Return what a backbone of whole numbers takes: pixels on a ``PixelGrid``.

    Parameters
    ----------
    pictures : Tensor of uint8, or of float from 0 to 1
    """
    if torch.onnx.is_in_onnx_export():
        one, zero = torch.tensor(1.0), torch.tensor(0, dtype=torch.uint8)
        pixels = pictures if pictures.dtype == torch.uint8 else _quantized(pictures * 255, one, zero)
        return _dequantized(pixels, one * _PIXEL_STEP, zero + PIXEL_ZERO)
    values = pictures.float() if pictures.dtype == torch.uint8 else (pictures.float() * 255).round().clamp(0, 255)
    return (values - PIXEL_ZERO) * _PIXEL_STEP


class WholeConvolution(nn.Module):
    """A convolution between two grids.

    Parameters
    ----------
    convolution : torch.nn.Conv2d
        With its normalisation folded in.
    given, gives : Grid
        Of what comes and of what goes.
    """

    given: Grid

    def __init__(self, convolution: nn.Conv2d, given: Grid, gives: Grid) -> None:
        super().__init__()
        assert convolution.bias is not None
        self.weight, self.bias = nn.Parameter(convolution.weight.detach()), nn.Parameter(convolution.bias.detach())
        self.stride, self.padding, self.groups = convolution.stride, convolution.padding, convolution.groups
        self.limit = _DEPTHWISE_LIMIT if convolution.weight.shape[1] == 1 else _WEIGHT_LIMIT
        self.gives = gives
        object.__setattr__(self, "given", given)  # a part of the layer before, under whose name its step is stored

    def forward(self, values: Tensor) -> Tensor:
        """Return values on the second grid for values on the first, as they are learned, or written in a graph."""
        steps = self._weight_steps()
        if not torch.onnx.is_in_onnx_export():
            steps = steps.view(-1, 1, 1, 1)
            return self.gives(self._convolved(values, _rounded(self.weight / steps) * steps, self.bias))
        zeros = torch.zeros(len(steps), dtype=torch.int8)
        weight = _dequantized(_quantized(self.weight, steps, zeros), steps, zeros)
        bias_steps = self.given.step * steps
        bias = (self.bias / bias_steps).round().to(torch.int32)
        bias = _dequantized(bias, bias_steps, torch.zeros(len(bias), dtype=torch.int32))
        return self.gives(self._convolved(values, weight, bias))

    def exact(self, numbers: Tensor) -> Tensor:
        """Return whole numbers for whole numbers, as floats: sums far below 2**24, then one factor an output."""
        steps, given = self._weight_steps(), self.given.step
        weight, bias = (self.weight / steps.view(-1, 1, 1, 1)).round(), (self.bias / (given * steps)).round()
        sums = self._convolved(numbers, weight, bias).mul_((given * steps / self.gives.step).view(1, -1, 1, 1))
        return sums.round_().clamp_(self.gives.low, self.gives.high)

    def _convolved(self, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.conv2d(values, weight, bias, self.stride, self.padding, groups=self.groups)

    def _weight_steps(self) -> Tensor:
        """Return the step of each output's weights (out,): the largest of them is the grid's last."""
        largest = self.weight.detach().abs().amax((1, 2, 3))
        return (largest / self.limit).clamp_min(_SMALLEST_STEP)


class WholeBlock(nn.Module):
    """Convolutions in a row, and what came beside them where it is added.

    Parameters
    ----------
    layers : list of WholeConvolution
    gives : Grid, optional
        Of the sum; without it nothing is added.
    units : Tensor of float, shape (channels,)
        What its channels' values are counted in.
    """

    units: Tensor

    def __init__(self, layers: list[WholeConvolution], gives: Grid | None, units: Tensor) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.gives = gives
        self.register_buffer("units", units.to(torch.float16).float())

    def in_units(self, values: Tensor) -> Tensor:
        """Return what it gave as the network that was trained in 32 bits would have: for all but the next block."""
        return values * self.units.view(1, -1, 1, 1)

    def forward(self, values: Tensor) -> Tensor:
        """Return values on the grid of the sum, or of the last convolution."""
        if not self.training and not torch.onnx.is_in_onnx_export():
            with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
                return self._exact(values)
        found: Tensor = self.layers(values)
        return found if self.gives is None else self.gives(values + found)

    def _exact(self, values: Tensor) -> Tensor:
        layers = [layer for layer in self.layers if isinstance(layer, WholeConvolution)]
        first, last = layers[0].given, layers[-1].gives
        given = found = first.numbers(values)
        for layer in layers:
            found = layer.exact(found)
        if self.gives is None:
            return found.mul_(last.step)
        return _exact_sum(given, first, found, last, self.gives).mul_(self.gives.step)


def _exact_sum(given: Tensor, first: Grid, found: Tensor, last: Grid, to: Grid) -> Tensor:
    """Add whole numbers of two grids as ONNX Runtime does, which counts them from their grids' lowest."""
    first_share, last_share = first.step / to.step, last.step / to.step
    apart = -to.low - (first_share * -first.low + last_share * -last.low)
    total = _multiplied_and_added(last_share, found - last.low, apart)
    total = _multiplied_and_added(first_share, given - first.low, total)
    return total.round_().add_(to.low).clamp_(to.low, to.high)


def _multiplied_and_added(left: Tensor, right: Tensor, more: Tensor) -> Tensor:
    """Return left * right + more, rounded once, as processors do it: in doubles, which hold the product whole."""
    return (left.double() * right.double() + more.double()).float()


class _Rounding(torch.autograd.Function):
    """Rounds; gradients pass as if it were not done (Bengio et al., "Estimating or Propagating Gradients", 2013).

    Torch's own ``fake_quantize_per_tensor_affine`` takes three times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004 (torch's name)
        return values.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient


def _rounded(values: Tensor) -> Tensor:
    rounded: Tensor = _Rounding.apply(values)
    return rounded


def _quantized(values: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    """Return the whole numbers of values, in a graph that is written: of one grid, or of one for each output."""
    return torch.onnx.ops.symbolic(
        "QuantizeLinear", (values, step, zero), {"axis": 0}, dtype=zero.dtype, shape=values.shape
    )


def _dequantized(numbers: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    """Return the values of whole numbers, in a graph that is written."""
    return torch.onnx.ops.symbolic(
        "DequantizeLinear", (numbers, step, zero), {"axis": 0}, dtype=torch.float32, shape=numbers.shape
    )
