"""Our own small network: a ResNet for pictures of a few dozen pixels, grey or in colour.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; no first pooling, few channels.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional


def small_resnet(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Return its layers up to the last maps.

    Parameters
    ----------
    channels : int
        Of the pictures.
    widths : tuple of int
        Channels of each stage; every stage but the first halves the maps' sides.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
        _Residual(widths[0], widths[0], 1),
    ]
    for before, width in pairwise(widths):
        layers += [_Residual(before, width, 2), _Residual(width, width, 1)]
    return nn.Sequential(*layers)


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))
