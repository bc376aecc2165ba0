"""What ``similar`` was asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from stylematch.settings.base import Section, Switch


class SimilarSettings(Section):
    """What ``similar`` was asked for; those that change the table are part of the run's name.

    Attributes
    ----------
    top_k : int
        Items per item.
    where : str, optional
        Only items that this condition (SQL) over the columns of the item index holds for are offered; each item is
        still asked about.
    same : tuple of str
        Columns of the item index in which an item and those offered with it are equal; an empty cell equals an empty
        one. One string may name several, with commas between.
    device : {"auto", "cpu", "cuda"}
        Where the vectors are searched; changes no result.
    overwrite : bool
        Search again what is already there.
    """

    top_k: Annotated[int, Field(ge=1, le=1000, strict=True)] = 10
    where: str | None = None
    same: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    overwrite: Switch = False

    @field_validator("same", mode="before")
    @classmethod
    def _split_same(cls, names: Any) -> Any:
        return names.split(",") if isinstance(names, str) else names

    @field_validator("same")
    @classmethod
    def _strip_same(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        stripped = tuple(dict.fromkeys(name.strip() for name in names))
        if "" in stripped:  # an unset variable in a script would ask for nothing
            raise ValueError("same: a name is empty; write columns with commas between, such as category,gender")
        return stripped
