"""The embedding of a data set and the index over it."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Literal

from pydantic import model_validator

from stylematch.settings.base import Count, Section


class EmbedJob(Section):
    """One embedding of a data set and the index over it: ``stylematch-batch embed JOB.toml``.

    Attributes
    ----------
    source : str
        ``celeba``, ``fashion-mnist`` or a directory of pictures.
    bundle : str, optional
        The model bundle that embeds; by default the shipped one.
    embeddings : str
        Where the Parquet shards go.
    index : str, optional
        Where the FAISS index over them goes; none is built without it.
    splits : list of str
        Which splits of the data set.
    root : str, optional
        The data set's folder, where it is not at its usual place.
    faces : {"find", "aligned"}
        How faces are had from a directory of pictures.
    batch_size : int
        Pictures a batch.
    """

    source: str
    bundle: str | None = None
    embeddings: str
    index: str | None = None
    splits: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    root: str | None = None
    faces: Literal["find", "aligned"] = "find"
    batch_size: Count = 64

    @model_validator(mode="after")
    def _folders_apart(self) -> EmbedJob:
        if self.index is not None:
            embeddings, index = (PurePath(os.path.normpath(path)) for path in (self.embeddings, self.index))
            if embeddings.is_relative_to(index) or index.is_relative_to(embeddings):
                raise ValueError("index: lies in the folder of embeddings, or the other way round; name one beside it")
        return self
