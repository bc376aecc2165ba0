"""What every run over somebody's photos is asked for: which are taken, how they are read, and where."""

from __future__ import annotations

from typing import Literal

from stylematch.settings.base import Count, Positive, Switch
from stylematch.settings.engine import EngineChoice


class PhotoSettings(EngineChoice):
    """Which photos count, and on what the models run.

    Attributes
    ----------
    min_face_px : int
        Smallest side of a face that counts, in pixels of the upright photo.
    max_megapixels, max_file_mb : float
        Larger photos are rejected.
    limit : int, optional
        Only the first so many photos.
    follow_links : bool
        Follow symbolic links among the photos.
    device : {"auto", "cpu", "cpu-bf16", "cuda"}
        Where the models run; "cpu-bf16" is the CPU in bfloat16, which "auto" never is.
    batch_size : int
        Photos a batch.
    overwrite : bool
        Write a run again that is already there.
    """

    min_face_px: Count = 24
    max_megapixels: Positive = 200.0
    max_file_mb: Positive = 200.0
    limit: Count | None = None
    follow_links: Switch = False
    device: Literal["auto", "cpu", "cpu-bf16", "cuda"] = "auto"
    batch_size: Count = 64
    overwrite: Switch = False
