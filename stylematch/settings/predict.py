"""What ``predict`` was asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stylematch.settings.base import Count, Positive
from stylematch.settings.engine import EngineChoice


class PredictSettings(EngineChoice):
    """What ``predict`` was asked for; those that change the tables are part of the run's name.

    Attributes
    ----------
    faces : {"find", "aligned"}, optional
        For a model of faces: search for them (the default), or take every picture for a face crop.
    invert : bool
        For a model of grey pictures: swap dark and light.
    min_face_px : int
        Smallest side of a face that counts, in pixels of the upright photo.
    max_megapixels, max_file_mb : float
        Larger photos are rejected.
    limit : int, optional
        Only the first so many photos.
    follow_links : bool
        Follow symbolic links among the photos.
    device : {"auto", "cpu", "cuda"}
        Where the model runs.
    batch_size : int
        Photos a batch.
    sheet : bool
        Draw the contact sheet.
    overwrite : bool
        Write a run again that is already there.
    """

    faces: Literal["find", "aligned"] | None = None
    invert: bool = False
    min_face_px: Annotated[int, Field(ge=1)] = 24
    max_megapixels: Positive = 200.0
    max_file_mb: Positive = 200.0
    limit: Count | None = None
    follow_links: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Count = 32
    sheet: bool = True
    overwrite: bool = False

    def naming(self) -> dict[str, object]:
        """Return the settings that change the tables, as plain values; the others leave no trace in them."""
        kept = ("invert", "min_face_px", "max_megapixels", "max_file_mb", "limit", "follow_links")
        return {"faces": self.faces or "find", **{name: getattr(self, name) for name in kept}}
