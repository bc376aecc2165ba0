"""What every settings class is made of: strict kinds of values and a frozen section that knows no other keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Strict, so that true is no 1, "32" no 32 and "off" no false; TOML and Python also know inf and nan, which no setting
# means.
Switch = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Positive = Annotated[float, Field(gt=0.0, strict=True)]
NotNegative = Annotated[float, Field(ge=0.0, strict=True)]
Weight = Annotated[float, Field(ge=0.0, le=1e6, strict=True)]  # of several, whose sum has to be a number
Count = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Seed = Annotated[int, Field(ge=0, le=2**32, strict=True)]
Degrees = Annotated[float, Field(ge=0.0, le=180.0, strict=True)]

NAME_PATTERN = r"^[A-Za-z0-9._-]+$"
"""Of a text that names a model, in tables and cards, and may stand in a path."""


class Section(BaseModel):
    """A table of a job file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def without_effect(self) -> list[str]:
        """Return a sentence for each setting that was given and changes nothing, for a job to warn of."""
        return []
