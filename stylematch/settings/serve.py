"""What ``serve`` was asked for, besides how photos are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stylematch.settings.base import Count, Section

UpToADay = Annotated[float, Field(gt=0.0, le=86_400.0, strict=True)]
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeSettings(Section):
    """Where the service listens, and what it takes on.

    Attributes
    ----------
    host, port
        Where it listens; port 0 is any that is free.
    allowed_hosts : tuple of str
        Names by which requests may address it. Empty: on loopback only loopback's own names, so that no page of another
        site can reach it under a name of its own; anywhere else all names.
    run : pathlib.Path, optional
        A finished run, whose gallery is shown.
    max_waiting : int
        Pictures that are being uploaded, wait or are scored; one more is told to come back later.
    batch_pictures : int
        Pictures that are scored in one go at most.
    batch_wait_ms : float
        How long a first picture waits for others.
    upload_timeout_s, timeout_s : float
        How long a picture may take to arrive, and then to be scored.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] = 8000
    allowed_hosts: tuple[str, ...] = ()
    run: Path | None = None
    max_waiting: Count = 64
    batch_pictures: Count = 16
    batch_wait_ms: Annotated[float, Field(ge=0.0, le=60_000.0, strict=True)] = 3.0
    upload_timeout_s: UpToADay = 30.0
    timeout_s: UpToADay = 30.0

    def hosts(self) -> list[str]:
        """Return the names that requests may address; ``*`` is any."""
        if self.allowed_hosts:
            return list(self.allowed_hosts)
        return [*LOOPBACK, "[::1]"] if self.host in LOOPBACK else ["*"]
