"""What a run scores with: the models and indexes that ``--index`` names, completed from the shipped default.

An index directory (``infos.json``) is one part; a collection has any of ``attributes/``, ``garments/``, ``faces/``
and ``items/``. Later directories win over earlier ones and over the default. An embedding means nothing to another
model, so an index must come from the very bundle that it is used with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stylematch.errors import UserError
from stylematch.search.infos import INFOS_FILE, PICTURES_FILE, IndexFolder, index_info
from stylematch.tables.shown import shown
from stylematch.vision.bundle import DESCRIPTION, Bundle

PARTS = ("attributes", "garments", "faces", "items")


@dataclass(frozen=True)
class Assets:
    """The attribute model, the garment encoder, the face gallery and the items, as they were when they were found.

    They travel as they were seen, so that whoever loads one later knows whether it is still the same
    (``check_same``). ``pictures`` is the file of the items' pictures in colour, where their catalogue has one.
    """

    attributes: Bundle
    garments: Bundle
    faces: IndexFolder
    items: IndexFolder
    pictures: Path | None = None

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The attributes that the model knows."""
        return self.attributes.schema.group("attributes").labels

    @property
    def sha256(self) -> dict[str, str]:
        """The digests of the parts, as a run is named by them."""
        return {
            "bundle": self.attributes.sha256,
            "garments": self.garments.sha256,
            "faces": self.faces.sha256,
            "items": self.items.sha256,
        }


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
    assets = Assets(
        Bundle.open(found["attributes"]),
        Bundle.open(found["garments"]),
        IndexFolder.open(found["faces"]),
        IndexFolder.open(found["items"]),
        found.get("pictures"),
    )
    for model, index in ((assets.attributes, assets.faces), (assets.garments, assets.items)):
        if index.infos["bundle_sha256"] != model.sha256:
            raise UserError(
                f"The index {shown(index.directory)} was not made by the model {shown(model.directory)}; embed and "
                "build it again (a catalogue by 'stylematch-batch catalog build'), or name the collection that holds "
                "both."
            )
    if missing := [name for name in assets.attribute_names if name not in assets.faces.labels]:
        raise UserError(
            f"The face gallery {shown(assets.faces.directory)} does not say which faces show {', '.join(missing)}; it "
            "must be embedded from labelled faces, as 'stylematch-batch embed celeba' does."
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
        if not parts and (directory / DESCRIPTION).is_file():
            raise UserError(
                f"--index {shown(directory)} is a model's bundle and no index: name the folder that it lies in as "
                "attributes or garments."
            )
        if not parts and not directory.exists():
            raise UserError(f"--index {shown(directory)}: there is no such directory; check the path.")
        if not parts:
            raise UserError(
                f"--index {shown(directory)} is neither an index (no {INFOS_FILE}) nor a collection of any of "
                f"{', '.join(PARTS)}; 'stylematch-batch catalog build' makes one of your items, 'index build' of "
                "embeddings."
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
