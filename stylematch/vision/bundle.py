"""Model bundles: one directory that holds all that running a model takes, and nothing that could run code.

- ``weights.safetensors``: every tensor once, as float16 (widened on load);
- ``model.onnx``: the graph for ONNX Runtime; its weights are external data that point into the bytes of
  ``weights.safetensors``, followed by a cast to float32, so the two runtimes cannot drift apart;
- ``bundle.json``: label schema, input, architecture, crop and licence;
- ``figures.json`` and ``MODEL_CARD.md``: what was measured, for people (not part of the bundle's identity).

Formats: safetensors (an 8-byte length, a JSON header, then the tensors), ONNX external data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stylematch.data.labels import LabelSchema
from stylematch.errors import UserError
from stylematch.tables.description import replaced

WEIGHTS, GRAPH, DESCRIPTION = "weights.safetensors", "model.onnx", "bundle.json"
FIGURES, CARD = "figures.json", "MODEL_CARD.md"
FORMAT = 1
SPACE_DIM = "space_dim"
"""The architecture's entry for the length of an embedding that is read from a layer of its own."""


@dataclass(frozen=True)
class Bundle:
    """A model bundle on disk.

    Attributes
    ----------
    directory : pathlib.Path
        Where it lies.
    description : dict
        What ``bundle.json`` says.
    sha256 : str
        Identity of the model when it was opened: description, graph and weights; card and figures are left out.
    """

    directory: Path
    description: dict[str, Any]
    sha256: str

    @classmethod
    def open(cls, directory: Path) -> Bundle:
        """Open a bundle.

        Raises
        ------
        UserError
            If the directory is no bundle, a damaged one, or one of another format.
        """
        for name in (DESCRIPTION, WEIGHTS, GRAPH):
            if not (directory / name).is_file():
                raise UserError(
                    f"{directory} is not a model bundle: it has no {name}; name the folder bundle/ of a training."
                )
        # An ONNX graph may take weights from any file beside it, and such a file would not count in the digest.
        if foreign := sorted(
            {path.name for path in directory.iterdir()} - {DESCRIPTION, WEIGHTS, GRAPH, FIGURES, CARD}
        ):
            raise UserError(f"{directory} holds {foreign[0]!r}, which is no part of a model bundle: move it away.")
        try:
            description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{directory / DESCRIPTION} cannot be read: {error}; get it again.") from error
        try:
            sha256 = _sha256(directory)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read: {error.strerror}; get it again.") from error
        found = description.get("format") if isinstance(description, dict) else None
        if found != FORMAT:
            raise UserError(
                f"{directory / DESCRIPTION} has format {found!r}, this version reads {FORMAT}; "
                "train the model again or install the version that wrote it."
            )
        bundle = cls(directory, description, sha256)
        try:
            _ = bundle.name, bundle.input_px, bundle.channels, bundle.embedding_dim, bundle.schema, bundle.learned
            if bundle.input_px < 1:
                raise ValueError("input.side_px is under 1")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{directory / DESCRIPTION} is damaged ({type(error).__name__}: {error}); get it again."
            ) from error
        return bundle

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.description["name"])

    @property
    def input_px(self) -> int:
        """Side of the input picture in pixels."""
        return int(self.description["input"]["side_px"])

    @property
    def channels(self) -> int:
        """Channels of the input picture: 3 (RGB) or 1 (grey)."""
        return int(self.description["input"]["channels"])

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding."""
        architecture = self.description["architecture"]
        return int(architecture.get(SPACE_DIM, architecture["embedding_dim"]))

    @property
    def int8(self) -> bool:
        """Whether its backbone computes in whole numbers of eight bits."""
        return bool(self.description["architecture"].get("int8", False))

    @property
    def learned(self) -> dict[str, Any]:
        """The settings of the data that the model learned from; empty where the bundle does not say."""
        return dict(self.description.get("data", {}))

    @cached_property
    def schema(self) -> LabelSchema:
        """The label groups that the model predicts."""
        return LabelSchema.from_json(self.description["schema"])

    def check_same(self) -> None:
        """Compare the files with those that were opened; called after they were loaded.

        Raises
        ------
        StylematchError
            If the model was replaced in between.
        """
        try:
            if _sha256(self.directory) == self.sha256:
                return
        except OSError:
            pass
        raise replaced("model", self.directory)


def _sha256(directory: Path) -> str:
    digest = hashlib.sha256()
    for name in (DESCRIPTION, GRAPH, WEIGHTS):
        content = (directory / name).read_bytes()
        digest.update(f"{name} {len(content)} ".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def damaged(bundle: Bundle, error: Exception) -> UserError:
    """Return the sentence for a bundle whose weights or graph cannot be loaded."""
    what = str(error).strip().partition("\n")[0]
    return UserError(f"The model bundle {bundle.directory} is damaged ({what}); get or train it again.")


def sees_clothes(bundle: Bundle) -> bool:
    """Return whether a bundle knows coloured garments, worn ones too; else it knows Fashion-MNIST's grey ones alone."""
    settings: Mapping[str, Any] = bundle.description["input"]
    return settings.get("resize") == "garment" and bundle.channels == 3


def resize_of(bundle: Bundle) -> str:
    """Return how a bundle of garments learned to see a picture; one of Fashion-MNIST alone does not say."""
    settings: Mapping[str, Any] = bundle.description["input"]
    return str(settings.get("resize", "garment"))
