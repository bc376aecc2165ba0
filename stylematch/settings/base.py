"""What every settings class is made of: strict kinds of values and a frozen section that knows no other keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from stylematch.settings.home import is_unwritten_home

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

    @field_validator("*")
    @classmethod
    def _home_is_written_out(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a path that counts on a shell, which no job file has: it would be a folder called ``~``."""
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and is_unwritten_home(text):
                raise ValueError(f"{info.field_name}: no shell writes out the ~ of '{text}': write the whole path")
        return value

    def without_effect(self) -> list[str]:
        """Return a sentence for each setting that was given and changes nothing, for a job to warn of."""
        return []
