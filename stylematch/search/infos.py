"""``infos.json`` of an index directory: what its vectors are, read without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from stylematch.tables.description import DescriptionFile

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
