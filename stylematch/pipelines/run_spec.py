"""What a run that scores photos is made of, seen once: all that its tables follow from, but for the photos.

It is made before anything else and handed to whoever works on the run, so that settings, rules, models, indexes and the
items that are allowed are the same for all, whatever happens to the files meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stylematch.data.heif import has_heif
from stylematch.errors import UserError
from stylematch.pipelines.assets import Assets, resolve_assets
from stylematch.pipelines.style_fit import described, fit_of
from stylematch.settings.score import ScoreSettings
from stylematch.style.fits import Fit
from stylematch.style.rules import load_rules
from stylematch.style.ruleset import RuleSet
from stylematch.tables.environment import code_version
from stylematch.tables.manifest import compute_run_id, json_sha256
from stylematch.tables.shown import shown
from stylematch.vision.runtime import resolve_device
from stylematch.vision.yunet import YUNET_SHA256

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RunSpec:
    """What a run is made of; plain values, so that it travels to any process.

    Attributes
    ----------
    settings : ScoreSettings
        What was asked for.
    assets : Assets
        Models and indexes.
    device : str
        "cpu", "cpu-bf16" or "cuda".
    rules : RuleSet
        The rules that the settings name.
    fit : Fit, optional
        What was fitted to them over the gallery.
    allowed_items : ndarray of int64, optional
        The positions of the items that may be recommended; None for all.
    item_fields : tuple of pyarrow.Field
        The catalogue's columns that stand beside each recommended item.
    """

    settings: ScoreSettings
    assets: Assets
    device: str
    rules: RuleSet
    fit: Fit | None
    allowed_items: npt.NDArray[np.int64] | None = None
    item_fields: tuple[pa.Field, ...] = ()

    @classmethod
    def of(cls, settings: ScoreSettings, indexes: Sequence[Path] = ()) -> RunSpec:
        """Look at all of it.

        Parameters
        ----------
        settings : ScoreSettings
            How.
        indexes : sequence of pathlib.Path
            Index directories that replace parts of the default.

        Raises
        ------
        UserError
            If a model, index, rule set, device, or what is asked of the items is wrong.
        """
        assets, device = resolve_assets(indexes), resolve_device(settings.device)
        allowed = allowed_items(settings.where, assets.items.directory)
        rules = load_rules(
            settings.rules,
            attribute_names=assets.attribute_names,
            categories=assets.items.labels,
            without=settings.without,
        )
        fields = item_fields(settings.item_columns, assets.items.directory)
        if settings.where is not None or fields:  # which read the index once more
            assets.items.check_same()
        return cls(settings, assets, device, rules, fit_of(assets, rules), allowed, fields)

    @cached_property
    def style_fusion(self) -> dict[str, Any]:
        """How rules and neighbours are brought together, as a manifest tells it."""
        return described(self.fit)

    @cached_property
    def naming(self) -> dict[str, Any]:
        """The settings that a run is named by, and what else its tables follow from that has no digest of its own."""
        # The device is no trace of the host: CPU and CUDA differ in the last digits, so they are different runs. And
        # who installs the heic extra because photos were rejected without it must not hear that nothing is left to do.
        named = {**self.settings.naming(), "device": self.device, "heic": has_heif(), "style_fusion": self.style_fusion}
        if self.allowed_items is not None:
            named["allowed_items"] = hashlib.sha256(self.allowed_items.tobytes()).hexdigest()
        return named

    def run_id(self, inputs_sha256: str) -> str:
        """Return the name of the run over a listing."""
        digests = self.assets.sha256
        return compute_run_id(
            inputs=inputs_sha256,
            settings=self.naming,
            bundles=digests["bundle"],
            index=json_sha256([digests["faces"], digests["items"]]),
            rules=self.rules.sha256,
            code=code_version(),
        )

    def digests(self, inputs_sha256: str) -> dict[str, str]:
        """Return the digests as a manifest names them."""
        return {
            **self.assets.sha256,
            "face_finder": YUNET_SHA256,
            "rules": self.rules.sha256,
            "settings": json_sha256(self.naming),
            "inputs": inputs_sha256,
        }


def allowed_items(where: str | None, items: Path) -> npt.NDArray[np.int64] | None:
    """Ask once which items may be recommended, so that all workers know the same, whatever the condition asks.

    Parameters
    ----------
    where : str, optional
        The condition; without one the answer is None, which is all.
    items : pathlib.Path
        The index of items.

    Raises
    ------
    UserError
        If the condition cannot be read, or holds for no item.
    """
    if where is None:
        return None
    from stylematch.search.rows_file import read_rows

    return rows_allowed(where, read_rows(items), items)


def rows_allowed(where: str, rows: pa.Table, items: Path) -> npt.NDArray[np.int64]:
    """Return ``allowed_items`` of an index whose rows have been read."""
    from stylematch.search.where import positions_where, told_values

    allowed = positions_where(rows, where)
    if not len(allowed):
        told = told_values(rows, where)
        raise UserError(
            f"--where '{shown(where)}' holds for none of the items of {shown(items)}; ask for less (capitals count)"
            f"{f': {shown(told)}' if told else ''}."
        )
    return allowed


def item_fields(names: Sequence[str], items: Path) -> tuple[pa.Field, ...]:
    """Return the fields of the catalogue's columns that are to stand beside each recommended item.

    Parameters
    ----------
    names : sequence of str
        The columns.
    items : pathlib.Path
        The index of items.

    Raises
    ------
    UserError
        If the index has no such column, or the tables have one of that name themselves.
    """
    if not names:
        return ()
    from stylematch.search.names import proposed
    from stylematch.search.rows_file import row_fields
    from stylematch.tables.contract import dated, recommendations_schema

    known = row_fields(items)
    own = {name.casefold() for name in dated(recommendations_schema()).names}  # SQL knows no case
    for name in names:
        if name.casefold() in own:
            raise UserError(f"--item-columns {shown(name)}: recommendations have a column of that name already.")
        if name not in known:
            there = [column for column in known if column.casefold() not in own]
            raise UserError(
                f"--item-columns {shown(name)}: {shown(items)} has no such column; it has {shown(', '.join(there))}"
                f"{shown(proposed(name, there))}."
            )
        if not _can_be_copied(known[name].type):
            # pandas has no dates of its own, and writes them as times.
            dates = (
                " (pandas makes dates of times by .dt.date)" if str(known[name].type).startswith("timestamp") else ""
            )
            raise UserError(
                f"--item-columns {shown(name)}: the catalogue's column is of {known[name].type}; only texts, numbers, "
                f"dates, yes and no can stand there: build the catalogue with one of them{dates}."
            )
    return tuple(known[name].with_nullable(True).remove_metadata() for name in names)


def _can_be_copied(kind: pa.DataType) -> bool:
    """Say whether Python, SQL and JSON all know what a cell of a type is; times in nanoseconds or with zones differ."""
    import pyarrow as pa

    known = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_date),
        *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    )
    return any(is_one(kind) for is_one in known)
