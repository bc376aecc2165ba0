"""Two measurements of ``evaluate-recs`` on Fashion-MNIST: items of one class, and one item found again.

- Items: every test picture searches the training pictures; relevant is what has its class.
- Again: another view of every test picture (cropped, shifted, lighter or darker) searches all pictures, training and
  test; relevant is the picture itself. An encoder that collapses a class to a point is perfect at the first and fails
  here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stylematch.data.fashion_mnist import FashionMnist, find_fashion_mnist, read_fashion_mnist
from stylematch.engines.progress import Progress
from stylematch.evaluate.retrieval import find_by_label, find_own, mean_figures
from stylematch.pipelines.recs.encoders import Encoder

SMALLEST_CROP, LARGEST_SHIFT_PX, LARGEST_BRIGHTNESS = 0.85, 2.0, 0.2
_SEED = 0


def measure_items(
    encoders: Sequence[Encoder], missing: Mapping[str, str], named: Path | None, limit: int | None
) -> dict[str, dict[str, Any]]:
    """Return both parts of the report, ``items`` and ``instance``.

    Parameters
    ----------
    encoders : sequence of Encoder
        What is measured.
    missing : mapping of str to str
        Encoders that cannot be measured, and why.
    named : pathlib.Path, optional
        Fashion-MNIST's folder.
    limit : int, optional
        Only the first so many pictures of each split.

    Raises
    ------
    UserError
        If Fashion-MNIST is not there.
    """
    root = find_fashion_mnist(named)
    gallery, queries = (_first(read_fashion_mnist(root, split), limit) for split in ("train", "test"))
    known = np.isin(queries.labels, gallery.labels)  # all of them, unless a limit left few
    views = augmented_views(queries.pictures, _SEED)
    by_class: dict[str, Any] = {}
    again: dict[str, Any] = {}
    own = np.arange(len(queries.labels)) + len(gallery.labels)
    for encoder in encoders:
        here, there, changed = (
            encoder.embed(pictures[..., None], f"Fashion-MNIST {what}")
            for pictures, what in ((gallery.pictures, "train"), (queries.pictures, "test"), (views, "test, changed"))
        )
        with Progress(int(known.sum()), "queries", f"{encoder.name}: items of one class") as progress:
            scores = find_by_label(there[known], here, queries.labels[known], gallery.labels, advance=progress.update)
        by_class[encoder.name] = mean_figures(scores)
        with Progress(len(own), "queries", f"{encoder.name}: items found again") as progress:
            scores = find_own(changed, np.concatenate([here, there]), own, advance=progress.update)
        again[encoder.name] = mean_figures(scores)
    rows = {name: {"not_measured": why} for name, why in missing.items()}
    return {
        "items": {
            "queries": int(known.sum()),
            "without_relevant": int((~known).sum()),
            "gallery": len(gallery.labels),
            "rows": by_class | rows,
        },
        "instance": {"queries": len(own), "gallery": len(gallery.labels) + len(own), "rows": again | rows},
    }


def augmented_views(pictures: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """Return another view of each grey picture: cropped, shifted, lighter or darker; black beyond its edge.

    Parameters
    ----------
    pictures : ndarray of uint8, shape (n, side, side)
        The pictures.
    seed : int
        Equal seeds give equal views.

    Returns
    -------
    ndarray of uint8, shape (n, side, side)
        A crop of 85 to 100 % of the side, up to 2 px off the middle, bilinear, times 0.8 to 1.2.
    """
    rng = np.random.default_rng(seed)
    side = pictures.shape[1]
    views = np.empty_like(pictures)
    for picture, view in zip(pictures, views, strict=True):
        crop = rng.uniform(SMALLEST_CROP, 1.0)
        left, top = (1 - crop) * side / 2 + rng.uniform(-LARGEST_SHIFT_PX, LARGEST_SHIFT_PX, 2)
        brightness = rng.uniform(1 - LARGEST_BRIGHTNESS, 1 + LARGEST_BRIGHTNESS)
        moved = Image.fromarray(picture).transform(
            (side, side), Image.Transform.AFFINE, (crop, 0, left, 0, crop, top), Image.Resampling.BILINEAR
        )
        view[:] = np.rint(np.clip(np.asarray(moved, np.float64) * brightness, 0, 255))
    return views


def _first(items: FashionMnist, limit: int | None) -> FashionMnist:
    return FashionMnist(items.item_ids[:limit], items.pictures[:limit], items.labels[:limit])
