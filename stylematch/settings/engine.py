"""Where a run's partitions are done; no trace of it is in the run's name."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from stylematch.settings.base import NotNegative, Section


class EngineChoice(Section):
    """On which engine.

    Attributes
    ----------
    engine : {"local", "ray"}
        Processes of this machine, or actors of a Ray cluster.
    address : str, optional
        The Ray cluster's head, as ``HOST:PORT``, or ``auto``; without, ``$RAY_ADDRESS`` or a Ray of the run's own.
    photo_timeout_s : float
        How long a process may stay on one photo, to list it and, on either engine, to score it, and a folder of
        photos may take to answer; 0 for any time, and then nothing guards against photos that crash it.
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    photo_timeout_s: NotNegative = 60.0

    @model_validator(mode="after")
    def _address_is_rays(self) -> Self:
        if self.address is not None and self.engine != "ray":
            raise ValueError('address: names a Ray cluster; add --engine ray, in a job file engine = "ray"')
        if self.address is not None and (not self.address or "://" in self.address):
            raise ValueError(
                f"address: {self.address!r} is not the address of a Ray cluster's head; write HOST:PORT, or auto "
                "on a machine of the cluster"
            )
        return self
