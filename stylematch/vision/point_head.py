"""Points of a picture: heat maps over a feature map, each read as its expectation (integral regression).

Source: Sun, Xiao, Wei, Liang and Wei, "Integral Human Pose Regression", ECCV 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PointHead(nn.Module):
    """Heat maps over a feature map; a point is where its heat map's mass lies on average.

    Parameters
    ----------
    features : int
        Channels of the feature map.
    points : int
        How many.
    width : int
        Channels between.
    """

    def __init__(self, features: int, points: int, width: int = 64) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(features, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, points, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return points (n, 2 * points), x and y in units of the side, of a feature map (n, features, h, w)."""
        heat = self.maps(x).float()
        side = heat.shape[-1]
        centres = (torch.arange(side, device=x.device, dtype=torch.float32) + 0.5) / side
        # Not repeat_interleave, which the exporter of torch 2.11 cannot translate.
        places = torch.stack([centres.repeat(side), centres[:, None].expand(side, side).flatten()], 1)
        # No product of matrices, which autocast would take back to half the digits: a hundredth of the eyes' distance.
        return (torch.softmax(heat.flatten(2), dim=2)[..., None] * places).sum(2).flatten(1)
