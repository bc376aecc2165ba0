"""Augmentation of whole batches on the device that trains: one random affine warp, then colour.

Flip, shift, zoom and rotation are one resampling of the stored field (which is wider than the crop), so
nothing is blurred twice; points follow the same warp, and a flip exchanges left and right. Every random
number comes from one generator seeded by the step, so that a resumed training draws what an uninterrupted one
would.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from stylematch.settings.train_method import Augment
from stylematch.vision.batches import to_device


def augment_batch(
    fields: Tensor,
    points: dict[str, Tensor],
    crop_px: int,
    input_px: int,
    settings: Augment,
    generator: torch.Generator,
    mirrors: dict[str, list[int]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Warp and colour a batch.

    Parameters
    ----------
    fields : Tensor of float in 0 to 1, shape (n, channels, field, field)
        Crops, with a margin around them where they are moved.
    points : dict of str to Tensor of float, shape (n, width)
        Groups of points in units of the crop's side, x before y.
    crop_px : int
        Side of the crop in a field; it is enlarged in the same resampling, where it is not ``input_px``.
    input_px : int
        Side of the result.
    settings : Augment
        How much.
    generator : torch.Generator
        Where every random number comes from (a CPU generator).
    mirrors : dict of str to list of int
        By group, from ``mirror.mirrored``.

    Returns
    -------
    pictures : Tensor of float, shape (n, channels, input_px, input_px)
    points : dict of str to Tensor of float, shape (n, width)
    """
    count = len(fields)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    warped = (uniform(0, 1) < settings.warp).float()
    angle = uniform(-1, 1) * math.radians(settings.rotate_degrees) * warped
    zoom = torch.exp(uniform(-1, 1) * math.log1p(settings.zoom) * warped)
    # Whole pixels: without zoom and rotation the resampling is then exact, as sharp as what will be scored.
    shift = torch.round(torch.stack([uniform(-1, 1), uniform(-1, 1)], 1) * settings.shift * input_px) * 2 / input_px
    mirror = torch.where(uniform(0, 1) < settings.flip, -1.0, 1.0)
    turned = torch.where(uniform(0, 1) < settings.flip_vertical, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # Output to input, both in -1 to 1 over the crop: x_in = A x_out + b.
    matrix = torch.stack(
        [torch.stack([cos * mirror, -sin * turned], 1), torch.stack([sin * mirror, cos * turned], 1)], 1
    )
    share = crop_px / fields.shape[-1]
    theta = to_device(torch.cat([matrix, shift[:, :, None]], 2) * share, fields.device)
    grid = functional.affine_grid(theta, [count, fields.shape[1], input_px, input_px], align_corners=False)
    pictures = functional.grid_sample(fields, grid, padding_mode="border", align_corners=False)
    moved: dict[str, Tensor] = {}
    if points:
        matrix, shift, flipped = (to_device(values, fields.device) for values in (matrix, shift, (mirror < 0)[:, None]))
    for name, values in points.items():
        centred = values.view(count, -1, 2) * 2 - 1 - shift[:, None]
        # Not linalg.solve, which asks the device whether a matrix was singular; none of these is.
        there = torch.linalg.solve_ex(matrix, centred.transpose(1, 2)).result.transpose(1, 2)
        there = ((there + 1) / 2).reshape(count, -1)
        moved[name] = torch.where(flipped, there[:, to_device(torch.tensor(mirrors[name]), there.device)], there)
    return _colour(pictures, settings, generator), moved


def _colour(pictures: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    count, channels = pictures.shape[:2]

    def factor(amount: float) -> Tensor:
        return to_device(1 + (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1) * amount, pictures.device)

    def chosen(share: float) -> Tensor:
        return to_device(torch.rand(count, 1, 1, 1, generator=generator) < share, pictures.device)

    pictures = pictures * factor(settings.brightness)
    average = pictures.mean(dim=(1, 2, 3), keepdim=True)
    pictures = average + (pictures - average) * factor(settings.contrast)
    if channels == 3:
        luma = to_device(torch.tensor([0.299, 0.587, 0.114], dtype=pictures.dtype), pictures.device)
        grey = (pictures * luma.view(1, 3, 1, 1)).sum(1, keepdim=True)
        kept = torch.where(
            chosen(settings.grayscale), torch.zeros_like(grey[:, :, :1, :1]), factor(settings.saturation)
        )
        pictures = grey + (pictures - grey) * kept
    pictures = pictures.clamp(0, 1)
    return _erase(pictures, chosen(settings.erase), generator)


def _erase(pictures: Tensor, erased: Tensor, generator: torch.Generator) -> Tensor:
    """Replace one rectangle of each chosen picture by its mean (random erasing, Zhong et al., AAAI 2020)."""
    count, _, side, _ = pictures.shape
    low, size = to_device(torch.rand(2, count, 2, generator=generator), pictures.device)
    size = 0.15 + 0.25 * size
    low = low * (1 - size)
    at = (torch.arange(side, device=pictures.device) + 0.5) / side
    inside = (at >= low[..., None]) & (at < (low + size)[..., None])
    mask = (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None] & erased
    return torch.where(mask, pictures.mean(dim=(2, 3), keepdim=True), pictures)


def mix_batch(pictures: Tensor, settings: Augment, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Blend a share of the pictures with others of the batch (mixup, Zhang et al., ICLR 2018).

    Parameters
    ----------
    pictures : Tensor of float, shape (n, channels, side, side)
        A batch.
    settings : Augment
        ``mixup`` is the share.
    generator : torch.Generator
        Where every random number comes from.

    Returns
    -------
    pictures : Tensor of float, shape (n, channels, side, side)
    partner : Tensor of int64, shape (n,)
        With which row each was blended.
    share : Tensor of float, shape (n, 1)
        How much of itself is left; 1 where it was not blended.
    """
    count = len(pictures)
    partner = to_device(torch.randperm(count, generator=generator), pictures.device)
    mixed, other = to_device(torch.rand(2, count, 1, generator=generator), pictures.device)
    share = torch.where(mixed < settings.mixup, 1 - other / 2, 1.0)
    weight = share[:, :, None, None]
    return pictures * weight + pictures[partner] * (1 - weight), partner, share
