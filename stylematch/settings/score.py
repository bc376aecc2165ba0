"""What a scoring run was asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stylematch.settings.base import Count, Fraction, Positive, Section


class ScoreSettings(Section):
    """What ``score`` was asked for; those that change the tables are part of the run's name.

    Attributes
    ----------
    top_k : int
        Items per face.
    rules : str
        A shipped rule set's name or a TOML file.
    faces : {"find", "aligned"}
        Search for faces, or take every picture for a face crop.
    min_face_px : int
        Smallest side of a face that counts, in pixels of the upright photo.
    max_megapixels, max_file_mb : float
        Larger photos are rejected.
    limit : int, optional
        Only the first so many photos.
    seed : int
        Varies the choice among typical items.
    device : {"auto", "cpu", "cuda"}
        Where the model runs.
    batch_size, workers : int
        Photos a batch, and processes; 0 workers is one per core.
    report : bool
        Write the gallery.
    follow_links : bool
        Follow symbolic links among the photos.
    overwrite : bool
        Write a run again that is already there.
    max_reject_share : float, optional
        Over this share of rejected photos the run ends with exit code 4.
    """

    top_k: Count = 5
    rules: str = "classic"
    faces: Literal["find", "aligned"] = "find"
    min_face_px: Annotated[int, Field(ge=1)] = 24
    max_megapixels: Positive = 200.0
    max_file_mb: Positive = 200.0
    limit: Count | None = None
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: Count = 32
    workers: Annotated[int, Field(ge=0)] = 0
    report: bool = True
    follow_links: bool = False
    overwrite: bool = False
    max_reject_share: Fraction | None = None

    def naming(self) -> dict[str, object]:
        """Return the settings that change the tables, as plain values; the others leave no trace in them."""
        kept = (
            "top_k",
            "faces",
            "min_face_px",
            "max_megapixels",
            "max_file_mb",
            "limit",
            "seed",
            "follow_links",
        )
        return {name: getattr(self, name) for name in kept}
