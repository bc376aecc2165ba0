"""What makes embeddings of garments' pictures for ``evaluate-recs``: the bundle that is measured and its two baselines.

All take the same pictures, light on black as Fashion-MNIST is, grey (one channel) or in colour (three), and give unit
vectors of float32; a row of NaN where a picture gives none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stylematch.engines.progress import Progress
from stylematch.errors import UserError
from stylematch.search.units import has_direction, normalise
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import durable_file
from stylematch.vision.bundle import Bundle
from stylematch.vision.grey import grey
from stylematch.vision.runtime import CpuRuntime, run_in_batches

SIDE_PX = 28
"""Side of the pictures that everything is measured on."""
IMAGENET_PX = 96
ENCODER, RAW, IMAGENET = "encoder", "raw pixels", "untuned ImageNet features"
_BATCH = 256

Pictures = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Anything that embeds pictures."""

    name: str

    def embed(self, pictures: Pictures, what: str) -> Vectors:
        """Embed pictures (n, 28, 28, c), called ``what`` in the progress, into unit vectors (n, d)."""
        ...


class BundleEncoder:
    """A garment encoder's bundle, of one channel or three, in the runtime that scores.

    Raises
    ------
    UserError
        If it takes pictures of another size.
    """

    name = ENCODER

    def __init__(self, bundle: Bundle) -> None:
        if bundle.input_px != SIDE_PX:
            raise UserError(
                f"{bundle.name} takes pictures of {bundle.input_px} px; evaluate-recs measures encoders of garments in "
                f"{SIDE_PX} px, as Fashion-MNIST has them."
            )
        self.bundle = bundle
        self._runtime = CpuRuntime(bundle, threads=usable_cores())

    def embed(self, pictures: Pictures, what: str) -> Vectors:
        """Embed pictures; grey ones are repeated to three channels, or colour made grey (ITU-R 601), as needed."""
        fitting = _grey(pictures) if self.bundle.channels == 1 else _coloured(pictures)
        with Progress(len(pictures), "pictures", f"embed {what}") as progress:
            return _unit(run_in_batches(self._runtime, fitting, _BATCH, progress.update).embedding)


class RawPixels:
    """No model at all: the pixels themselves, as one vector."""

    name = RAW

    def embed(self, pictures: Pictures, what: str) -> Vectors:
        """Return the pixels as unit vectors."""
        del what  # it takes no time
        return _unit(pictures.reshape(len(pictures), -1))


class ImagenetFeatures:
    """torchvision's MobileNetV2 as ImageNet left it (IMAGENET1K_V1): the pooled 1,280 features.

    Pictures are enlarged to ``IMAGENET_PX``, and negated back to dark on light, as ImageNet's photos of things are.
    Features are kept in ``cache``, since they take minutes and are the same for every bundle.

    Parameters
    ----------
    cache : pathlib.Path
        A folder; created.

    Raises
    ------
    ImportError
        If torch is not installed.
    UserError
        If the weights cannot be had.
    """

    name = IMAGENET

    def __init__(self, cache: Path) -> None:
        from stylematch.vision.frozen_features import FrozenFeatures

        self._cache = cache
        self._frozen = FrozenFeatures(
            "mobilenet_v2", "imagenet", side_px=SIDE_PX, input_px=IMAGENET_PX, threads=usable_cores()
        )

    def embed(self, pictures: Pictures, what: str) -> Vectors:
        """Return the features as unit vectors, from the cache where it has them."""
        recipe = f"mobilenet_v2 IMAGENET1K_V1 {IMAGENET_PX} ONNX Runtime {pictures.shape} "
        digest = hashlib.sha256(recipe.encode() + np.ascontiguousarray(pictures).tobytes()).hexdigest()[:16]
        path = self._cache / f"imagenet-{digest}.npy"
        if not path.is_file():
            self._cache.mkdir(parents=True, exist_ok=True)
            with Progress(len(pictures), "pictures", f"ImageNet features of {what}") as progress:
                features = self._features(pictures, progress.update)
            with durable_file(path) as file:
                np.save(file, features, allow_pickle=False)
        return _unit(np.load(path, allow_pickle=False))

    def _features(self, pictures: Pictures, advance: Callable[[int], None]) -> npt.NDArray[np.float16]:
        parts = []
        for start in range(0, len(pictures), _BATCH):
            parts.append(self._frozen.run(_coloured(pictures[start : start + _BATCH])).astype(np.float16))
            advance(len(parts[-1]))
        return np.concatenate(parts)


def baselines(cache: Path) -> tuple[list[Encoder], dict[str, str]]:
    """Return the baselines that can be measured here, and why the others cannot, by name."""
    encoders: list[Encoder] = [RawPixels()]
    try:
        return [*encoders, ImagenetFeatures(cache)], {}
    except ImportError:
        return encoders, {IMAGENET: "torch and torchvision are not installed (the train extra)"}
    except UserError as error:
        return encoders, {IMAGENET: str(error)}


def _grey(pictures: Pictures) -> Pictures:
    if pictures.shape[-1] == 1:
        return pictures
    rows = np.ascontiguousarray(pictures).reshape(-1, pictures.shape[2], 3)  # one under the other, as one picture
    return grey(rows).reshape(*pictures.shape[:3], 1)


def _coloured(pictures: Pictures) -> Pictures:
    return np.broadcast_to(pictures, (*pictures.shape[:3], 3))


def _unit(vectors: npt.NDArray[Any]) -> Vectors:
    """Scale to length 1 in float64, in blocks; what has no direction becomes NaN."""
    unit = np.full(vectors.shape, np.nan, np.float32)
    for start in range(0, len(vectors), 4096):
        block = vectors[start : start + 4096].astype(np.float64)
        there = has_direction(block)
        if there.any():
            unit[start : start + 4096][there] = normalise(block[there])
    return unit
