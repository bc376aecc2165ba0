"""What a run scores with: the models and indexes that ``--index`` names, completed from the shipped default.

An index directory (``infos.json``) is one part; a collection has any of ``attributes/``, ``garments/``, ``faces/``
and ``items/``. Later directories win over earlier ones and over the default. An embedding means nothing to another
model, so an index must come from the very bundle that it is used with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stylematch.errors import StylematchError, UserError
from stylematch.search.infos import INFOS_FILE, PICTURES_FILE, index_info
from stylematch.tables.shown import shown
from stylematch.vision.bundle import DESCRIPTION, Bundle

PARTS = ("attributes", "garments", "faces", "items")


@dataclass(frozen=True)
class Assets:
    """Directories of the parts: the attribute model, the garment encoder, the face gallery and the items.

    ``pictures`` is the file of the items' pictures in colour, where their catalogue has one. The two indexes' digests
    are those of the first look, and travel along, so that whoever loads an index knows whether it is still the same.
    """

    attributes: Path
    garments: Path
    faces: Path
    items: Path
    faces_sha256: str
    items_sha256: str
    pictures: Path | None = None

    def bundle_sha256(self) -> str:
        """Return the attribute model's digest; the garment encoder's is part of the items' (``bundle_sha256``)."""
        return Bundle.open(self.attributes).sha256

    @property
    def index_sha256(self) -> dict[str, str]:
        """The digests of the two indexes, ``faces`` and ``items``; see ``infos_sha256``."""
        return {"faces": self.faces_sha256, "items": self.items_sha256}

    def check_index(self, part: Literal["faces", "items"], infos: Mapping[str, Any]) -> None:
        """Compare an index that was loaded with the one that the run is named after.

        Raises
        ------
        StylematchError
            If it was replaced in between.
        """
        if infos_sha256(infos) != self.index_sha256[part]:
            raise StylematchError(
                f"the index {shown(getattr(self, part))} was replaced while it was used; run the same command again"
            )


def infos_sha256(infos: Mapping[str, Any]) -> str:
    """Return an index's digest: over what ``index_info`` returns of its files and origin."""
    return hashlib.sha256(json.dumps(infos, sort_keys=True).encode()).hexdigest()


def default_index() -> Path:
    """Return the shipped default: beside the package in a checkout, inside it in a wheel.

    Raises
    ------
    UserError
        If this installation has none.
    """
    package = Path(__file__).resolve().parents[1]
    for path in (package / "_default_index", package.parent / "indexes" / "default"):
        if path.is_dir():
            return path
    raise UserError("This installation has no default index; name one with --index, or run 'make default-index'.")


def resolve_assets(directories: Sequence[Path]) -> Assets:
    """Find every part.

    Parameters
    ----------
    directories : sequence of pathlib.Path
        What ``--index`` named, in order.

    Raises
    ------
    UserError
        If a directory is neither an index nor a collection, or the parts do not belong together.
    """
    found = named_parts(directories)
    faces, items = index_info(found["faces"]), index_info(found["items"])
    assets = Assets(
        found["attributes"],
        found["garments"],
        found["faces"],
        found["items"],
        infos_sha256(faces),
        infos_sha256(items),
        found.get("pictures"),
    )
    for model, index, infos in (
        (assets.attributes, assets.faces, faces),
        (assets.garments, assets.items, items),
    ):
        if infos["bundle_sha256"] != Bundle.open(model).sha256:
            raise UserError(
                f"The index {shown(index)} was not made by the model {shown(model)}; embed and build it again, or name "
                "the collection that holds both."
            )
    labelled = faces["attribute_names"]
    wanted = Bundle.open(assets.attributes).schema.group("attributes").labels
    if missing := [name for name in wanted if name not in labelled]:
        raise UserError(
            f"The face gallery {shown(assets.faces)} does not say which faces show {', '.join(missing)}; it must be "
            "embedded from labelled faces, as 'stylematch-batch embed celeba' does."
        )
    return assets


def named_parts(directories: Sequence[Path]) -> dict[str, Path]:
    """Find every part, and leave open whether they belong together.

    Parameters
    ----------
    directories : sequence of pathlib.Path
        As for ``resolve_assets``.

    Returns
    -------
    dict of str to pathlib.Path
        ``PARTS``, and ``pictures`` where there are some.

    Raises
    ------
    UserError
        If a directory is neither an index nor a collection, or a part is nowhere.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        parts = _parts_of(directory)
        if not parts:
            raise UserError(
                f"--index {shown(directory)} is neither an index (no {INFOS_FILE}) nor a collection of any of "
                f"{', '.join(PARTS)}; 'stylematch-batch index build' makes one."
            )
        if "items" in parts:
            found.pop("pictures", None)
        found |= parts
    if not set(found) >= set(PARTS):
        found = _parts_of(default_index()) | found
    missing = [part for part in PARTS if part not in found]
    if missing:
        raise UserError(f"The index has no {', '.join(missing)}; build the parts or name a directory that has them.")
    return found


def item_index(directory: Path | None) -> Path:
    """Return the index of items that a folder is or holds; the shipped default's for None.

    Raises
    ------
    UserError
        If it has none.
    """
    directory = directory or default_index()
    parts = _parts_of(directory)
    if "items" not in parts:
        raise UserError(
            f"--index {shown(directory)} has no index of items; name one, or a collection that holds one, as "
            "'stylematch-batch catalog build' makes it."
        )
    return parts["items"]


def _parts_of(directory: Path) -> dict[str, Path]:
    if (directory / INFOS_FILE).is_file():
        return {index_info(directory)["kind"]: directory}
    parts = {
        part: directory / part
        for part in PARTS
        if any((directory / part / name).is_file() for name in (INFOS_FILE, DESCRIPTION))
    }
    if parts and (halves := [part for part in PARTS if part not in parts and (directory / part).is_dir()]):
        # Else the default's part would silently take its place.
        raise UserError(
            f"{shown(directory / halves[0])} has no {INFOS_FILE} or {DESCRIPTION}, so it is neither an index nor a "
            "model: copy the whole folder again, or remove it to use another one."
        )
    if "items" in parts and (directory / PICTURES_FILE).is_file():
        parts["pictures"] = directory / PICTURES_FILE
    return parts
