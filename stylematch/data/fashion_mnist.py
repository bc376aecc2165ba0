"""Fashion-MNIST: 70,000 grey 28x28 pictures of ten kinds of garment, read from its four IDX files.

Looked for in the folder that is named, in ``$STYLEMATCH_DATA/fashion_mnist``, where Debian's package
``dataset-fashion-mnist`` puts it, and last fetched by torchvision where there is a network and the train
extra.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747. MIT licence. IDX format: LeCun's MNIST page.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import CategoricalGroup, LabelSchema
from stylematch.errors import MissingExtraError, UserError
from stylematch.settings.load import cache_folder

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SCHEMA = LabelSchema((CategoricalGroup("category", CLASSES),))
LICENCE = "Fashion-MNIST, copyright 2017 Zalando SE, MIT licence."
LICENCE_TEXT = """\
Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_USUAL_NAMES = ("", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw")
_PREFIX = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class FashionMnist:
    """One split.

    Attributes
    ----------
    item_ids : tuple of str
        ``fashion-mnist-train-00000`` and so on: the split and the position in the official file.
    pictures : ndarray of uint8, shape (n, 28, 28)
        Garments light on black.
    labels : ndarray of int64, shape (n,)
        Indices into ``CLASSES``.
    """

    item_ids: tuple[str, ...]
    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def find_fashion_mnist(named: Path | None = None) -> Path:
    """Return the folder of the four IDX files (gzipped or not).

    Parameters
    ----------
    named : pathlib.Path, optional
        The folder that the user named; then no other is tried.

    Raises
    ------
    UserError
        If the files are nowhere and cannot be fetched.
    """
    if named is not None:
        if not holds_fashion_mnist(named):
            raise UserError(f"{named} does not hold Fashion-MNIST's four IDX files (train-images-idx3-ubyte.gz, ...).")
        return named
    return installed_fashion_mnist() or _download()


def installed_fashion_mnist() -> Path | None:
    """Return the usual folder that holds the four files, None where no usual one does; fetches nothing."""
    data = os.environ.get("STYLEMATCH_DATA")
    within = [Path(data) / name for name in _USUAL_NAMES] if data else []
    return next((folder for folder in [*within, DEBIAN_FOLDER] if holds_fashion_mnist(folder)), None)


def read_fashion_mnist(folder: Path, split: str) -> FashionMnist:
    """Read one split, "train" (60,000) or "test" (10,000).

    Raises
    ------
    UserError
        If a file is missing or is no IDX file of the expected shape.
    """
    pictures = _read_idx(_file(folder, f"{_PREFIX[split]}-images-idx3-ubyte"))
    labels = _read_idx(_file(folder, f"{_PREFIX[split]}-labels-idx1-ubyte"))
    if pictures.shape != (len(labels), 28, 28) or labels.ndim != 1:
        raise UserError(f"{folder}: the {split} files do not hold as many labels as 28x28 pictures; get them again.")
    if labels.size and labels.max() >= len(CLASSES):
        raise UserError(f"{folder}: the {split} labels name classes over {len(CLASSES) - 1}; get them again.")
    item_ids = tuple(f"fashion-mnist-{split}-{position:05d}" for position in range(len(labels)))
    return FashionMnist(item_ids, pictures, labels.astype(np.int64))


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UserError(f"{folder / name}.gz is missing: this is not a complete copy of Fashion-MNIST.")


def holds_fashion_mnist(folder: Path) -> bool:
    """Whether a folder holds all four IDX files, and may be looked into."""
    try:
        for prefix in _PREFIX.values():
            _file(folder, f"{prefix}-images-idx3-ubyte")
            _file(folder, f"{prefix}-labels-idx1-ubyte")
    except (UserError, OSError):
        return False
    return True


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}; it is damaged or cut short, so get it again.") from error
    ndim = data[3] if len(data) > 3 else 0
    if data[:3] != b"\0\0\x08" or ndim == 0 or len(data) < 4 + 4 * ndim:
        raise UserError(f"{path} is not an IDX file of bytes; get it again.")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=ndim, offset=4))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * ndim)
    if values.size != math.prod(shape):
        raise UserError(f"{path} holds {values.size} values, its header says {shape}; get it again.")
    return values.reshape(shape)


def _download() -> Path:
    sentence = (
        "Fashion-MNIST was not found. Name its folder with --fashion-mnist, set STYLEMATCH_DATA, or install "
        "Debian's dataset-fashion-mnist."
    )
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError as error:
        raise MissingExtraError(f"{sentence} Fetching it", "train") from error
    cache = cache_folder()
    folder = cache / "FashionMNIST" / "raw"
    if not holds_fashion_mnist(folder):
        try:
            FashionMNIST(str(cache), download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{sentence} Fetching it failed: {error}.") from error
    return folder
