"""The ``predictions`` table: its columns follow from the labels of the model that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stylematch.data.labels import PIXEL_CENTRE_PX, BinaryGroup, CategoricalGroup, LabelSchema
from stylematch.errors import UserError
from stylematch.tables.contract import BOX
from stylematch.tables.shown import shown
from stylematch.vision.faces import FaceBox

TOP_CLASSES = 5
_TOP = pa.list_(
    pa.field("item", pa.struct([pa.field("label", pa.string(), nullable=False), pa.field("score", pa.float32())]))
)


def predictions_schema(labels: LabelSchema) -> pa.Schema:
    """Return the schema of the ``predictions`` table, key (path, face).

    A binary or point label has a float32 column of its own name (a probability; pixels of the upright photo), a
    categorical group has ``<group>``, ``<group>_score`` and ``<group>_top5``.

    Raises
    ------
    UserError
        If two columns would have one name, whatever their case.
    """
    if doubled := doubled_column(labels):
        raise UserError(
            f"two columns of the table would be called '{shown(doubled)}', case apart, after the model's labels: "
            "rename that label in its bundle.json."
        )
    return pa.schema(_fields(labels))


def doubled_column(labels: LabelSchema) -> str | None:
    """Return a column that the table would have twice, in the eyes of DuckDB, which overlooks case."""
    names = [field.name.lower() for field in _fields(labels)]
    return next((name for name in names if names.count(name) > 1), None)


def _fields(labels: LabelSchema) -> list[pa.Field]:
    fields = [
        pa.field("path", pa.string(), nullable=False),
        pa.field("photo_id", pa.string(), nullable=False),
        pa.field("face", pa.int32(), nullable=False),
        *[pa.field(name, pa.float32()) for name in BOX],
    ]
    for group in labels.groups:
        if isinstance(group, CategoricalGroup):
            fields.append(pa.field(group.name, pa.string(), nullable=False))
            fields.append(pa.field(f"{group.name}_score", pa.float32(), nullable=False))
            fields.append(pa.field(f"{group.name}_top{TOP_CLASSES}", _TOP, nullable=False))
        else:
            fields += [pa.field(label, pa.float32(), nullable=False) for label in group.labels]
    return fields


def box_columns(boxes: Sequence[FaceBox | None]) -> dict[str, list[float | None]]:
    """Return the columns of the boxes, all null for a picture that was taken whole."""
    return {
        name: [None if box is None else getattr(box, "score" if name == "detection_score" else name) for box in boxes]
        for name in BOX
    }


def label_columns(
    labels: LabelSchema, heads: dict[str, npt.NDArray[np.float32]], areas_px: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Return the columns of what a model says of n pictures.

    Parameters
    ----------
    labels : LabelSchema
        What the model predicts.
    heads : dict of str to ndarray of float32, shape (n, width)
        By group: probabilities, or points in units of the picture's sides.
    areas_px : ndarray of float64, shape (n, 4)
        Left, top, width and height of what each picture shows, in pixels of the photo.
    """
    columns: dict[str, Any] = {}
    for group in labels.groups:
        values: npt.NDArray[np.floating] = heads[group.name]
        if isinstance(group, CategoricalGroup):
            order = np.argsort(-values, axis=1, kind="stable")[:, :TOP_CLASSES]  # of equal scores the first class
            top = [
                [{"label": group.labels[label], "score": float(row[label])} for label in best]
                for row, best in zip(values, order, strict=True)
            ]
            columns[group.name] = [best[0]["label"] for best in top]
            columns[f"{group.name}_score"] = [best[0]["score"] for best in top]
            columns[f"{group.name}_top{TOP_CLASSES}"] = top
            continue
        if not isinstance(group, BinaryGroup):
            points = group.width // 2
            values = np.tile(areas_px[:, :2], points) + values.astype(np.float64) * np.tile(areas_px[:, 2:], points)
            if group.name == "landmarks":
                values = values - PIXEL_CENTRE_PX
        columns |= {label: values[:, position] for position, label in enumerate(group.labels)}
    return columns
