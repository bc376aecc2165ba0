"""``infos.json`` of an index directory: what its vectors are, read without them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stylematch.errors import UserError
from stylematch.tables.description import DescriptionFile, replaced

Kind = Literal["faces", "items"]
INFOS_FILE = "infos.json"
SPEED_KEY = "speed"
LABELS_KEY: dict[Kind, str] = {"faces": "attribute_names", "items": "categories"}
"""Where ``infos.json`` (and ``embeddings.json``) list the labels that the rows carry."""
_INFOS = DescriptionFile(
    INFOS_FILE,
    "an index",
    "index build",
    "build the index again",
    {
        "count": int,
        "dim": int,
        "storage": str,
        "bytes_per_vector": float,
        "bundle_sha256": str,
        "source": str,
        "licence": str,
        "files": dict,
    },
    LABELS_KEY,
)
PICTURES_FILE = "pictures.parquet"
"""Beside an index of items: small JPEGs of them (``report/item_pictures``)."""


def index_info(directory: Path, *, with_speed: bool = False) -> dict[str, Any]:
    """Read ``infos.json`` alone.

    Parameters
    ----------
    directory : pathlib.Path
        An index directory.
    with_speed : bool
        Keep ``speed``, the one entry that differs between equal indexes.

    Raises
    ------
    UserError
        If ``directory`` is not an index directory, or its ``infos.json`` is damaged.
    """
    infos = _INFOS.read(directory)
    return {key: value for key, value in infos.items() if with_speed or key != SPEED_KEY}


@dataclass(frozen=True)
class IndexFolder:
    """An index directory as it was when it was first looked at, for all who load some of it later.

    Attributes
    ----------
    directory : pathlib.Path
        Where it lies.
    infos : dict
        What ``index_info`` says of it.
    """

    directory: Path
    infos: dict[str, Any]

    @classmethod
    def open(cls, directory: Path) -> IndexFolder:
        """Look at an index directory; raises as ``index_info`` does."""
        return cls(directory, index_info(directory))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that its rows carry: attributes of faces, categories of items."""
        return tuple(self.infos[LABELS_KEY[self.infos["kind"]]])

    @property
    def sha256(self) -> str:
        """Its digest: over what is said of its files and where they come from."""
        return infos_sha256(self.infos)

    def check_same(self) -> None:
        """Compare the directory with what was seen first; called after something of it was loaded.

        Raises
        ------
        StylematchError
            If the index was replaced in between.
        """
        try:
            if index_info(self.directory) == self.infos:
                return
        except UserError:
            pass
        raise replaced("index", self.directory)


def infos_sha256(infos: dict[str, Any]) -> str:
    """Return an index's digest, given ``index_info``."""
    return hashlib.sha256(json.dumps(infos, sort_keys=True).encode()).hexdigest()
