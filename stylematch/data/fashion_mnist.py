"""Fashion-MNIST: 70,000 grey 28x28 pictures of ten kinds of garment, read from its four IDX files.

Looked for in the folder that is named, in ``$STYLEMATCH_DATA/fashion_mnist``, where Debian's package
``dataset-fashion-mnist`` puts it, and last fetched by torchvision where there is a network and the train
extra.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv:1708.07747. MIT licence. IDX format: LeCun's MNIST page.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stylematch.data.labels import CategoricalGroup, LabelSchema
from stylematch.errors import MissingExtraError, UserError

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
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
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
        if not _is_complete(named):
            raise UserError(
                f"{named} does not hold Fashion-MNIST's four IDX files (train-images-idx3-ubyte.gz, ...)."
            )
        return named
    candidates = [DEBIAN_FOLDER]
    if data := os.environ.get("STYLEMATCH_DATA"):
        candidates.insert(0, Path(data) / "fashion_mnist")
    for folder in candidates:
        if _is_complete(folder):
            return folder
    return _download()


def read_fashion_mnist(folder: Path, split: str) -> FashionMnist:
    """Read one split, "train" (60,000) or "test" (10,000).

    Raises
    ------
    UserError
        If a file is missing or is no IDX file of the expected shape.
    """
    pictures = _read_idx(_file(folder, f"{_PREFIX[split]}-images-idx3-ubyte"))
    labels = _read_idx(_file(folder, f"{_PREFIX[split]}-labels-idx1-ubyte"))
    if pictures.ndim != 3 or pictures.shape[1:] != (28, 28) or len(labels) != len(pictures):
        raise UserError(f"{folder}: the {split} files do not hold as many labels as 28x28 pictures.")
    item_ids = tuple(f"fashion-mnist-{split}-{position:05d}" for position in range(len(labels)))
    return FashionMnist(item_ids, pictures, labels.astype(np.int64))


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UserError(f"{folder / name}.gz is missing: this is not a complete copy of Fashion-MNIST.")


def _is_complete(folder: Path) -> bool:
    try:
        for prefix in _PREFIX.values():
            _file(folder, f"{prefix}-images-idx3-ubyte")
            _file(folder, f"{prefix}-labels-idx1-ubyte")
    except UserError:
        return False
    return True


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as stream:
        try:
            data = stream.read()
        except (OSError, EOFError) as error:
            raise UserError(f"{path} cannot be read: {error}.") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise UserError(f"{path} is not an IDX file of bytes.")
    ndim = data[3]
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", count=ndim, offset=4))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * ndim)
    if values.size != int(np.prod(shape)):
        raise UserError(f"{path} holds {values.size} values, its header says {shape}.")
    return values.reshape(shape)


def _download() -> Path:
    sentence = (
        "Fashion-MNIST was not found. Name its folder with --fashion-mnist, set STYLEMATCH_DATA, or install Debian's "
        "dataset-fashion-mnist."
    )
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError as error:
        raise MissingExtraError(f"{sentence} Fetching it", "train") from error
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stylematch"
    folder = cache / "FashionMNIST" / "raw"
    if not _is_complete(folder):
        try:
            FashionMNIST(str(cache), download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{sentence} Fetching it failed: {error}.") from error
    return folder
