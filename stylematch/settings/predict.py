"""What ``predict`` was asked for."""

from __future__ import annotations

from typing import Literal

from stylematch.settings.base import Switch
from stylematch.settings.photos import PhotoSettings


class PredictSettings(PhotoSettings):
    """What ``predict`` was asked for; those that change the tables are part of the run's name.

    Attributes
    ----------
    faces : {"find", "aligned"}, optional
        For a model of faces: search for them (the default), or take every picture for a face crop.
    invert : bool
        For a model of grey pictures: swap dark and light.
    sheet : bool
        Draw the contact sheet.
    """

    faces: Literal["find", "aligned"] | None = None
    invert: Switch = False
    sheet: Switch = True

    def naming(self) -> dict[str, object]:
        """Return the settings that change the tables, as plain values; the others leave no trace in them."""
        kept = ("invert", "min_face_px", "max_megapixels", "max_file_mb", "limit", "follow_links")
        return {"faces": self.faces or "find", **{name: getattr(self, name) for name in kept}}
