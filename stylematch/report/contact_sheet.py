"""A contact sheet: one JPEG that shows a few pictures with what a model says of them drawn on.

Each picture stands in a tile: boxes and points on it, its name under it, then for each face its likely labels. The
text is set in Pillow's own font, which knows ASCII alone, so whatever a name holds besides is drawn as an escape.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from stylematch.data.labels import BinaryGroup, CategoricalGroup, LabelSchema
from stylematch.tables.disk import write_durably
from stylematch.tables.shown import shown

MAX_PICTURES = 48
MAX_LABELS = 6
THRESHOLD = 0.5
"""A binary label is drawn from this probability on, where its model has no threshold of its own."""

Thresholds = Mapping[str, Mapping[str, float]]

TILE_PX = 300
_MAX_COLUMNS = 6
_MAX_LINES = 12
_GAP_PX = 12
_LINE_PX = 17
_HEADER_PX = 40
_QUALITY = 88
_PAPER, _INK, _FAINT, _BLANK = "#ffffff", "#1c1c1c", "#6b6b6b", "#e4e4e4"
# Okabe and Ito's colours, which colour-blind people tell apart; a face's box, points and number share one.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7")


@dataclass(frozen=True, eq=False)
class Subject:
    """A face, or a picture that was taken whole.

    Attributes
    ----------
    box : tuple of float, or None
        Left, top, width and height in pixels of the full-size photo; None for a whole picture.
    points : ndarray of float, shape (p, 2)
        x and y in the same pixels.
    labels : tuple of str
        What is said of it.
    """

    box: tuple[float, float, float, float] | None
    points: npt.NDArray[np.floating]
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class SheetPicture:
    """One tile.

    Attributes
    ----------
    name : str
        What stands under it.
    pixels : ndarray of uint8, shape (h, w, 3), or None
        The upright photo, possibly scaled down; None leaves the tile grey.
    size_px : tuple of int
        Width and height of the full-size photo.
    subjects : tuple of Subject
        What is drawn on it.
    note : str, optional
        What stands there in place of labels, such as "no face found".
    """

    name: str
    pixels: npt.NDArray[np.uint8] | None
    size_px: tuple[int, int]
    subjects: tuple[Subject, ...] = ()
    note: str | None = None


def subject_of(labels: LabelSchema, row: Mapping[str, Any], thresholds: Thresholds) -> Subject:
    """Return what is drawn for a row of the ``predictions`` table.

    Of binary labels those that reach their threshold, most probable first, at most ``MAX_LABELS`` of a group; of a
    categorical group the class.

    Parameters
    ----------
    labels : LabelSchema
        What the model predicts.
    row : mapping
        The row.
    thresholds : mapping of str to mapping of str to float
        By binary group and label, from 0 to 1; ``THRESHOLD`` where there is none.
    """
    texts: list[str] = []
    points: list[tuple[float, float]] = []
    for group in labels.groups:
        if isinstance(group, BinaryGroup):
            needed = thresholds.get(group.name, {})
            likely = [name for name in group.labels if row[name] >= needed.get(name, THRESHOLD)]
            likely.sort(key=lambda name: -row[name])
            texts += [f"{name} {_percent(row[name])}" for name in likely[:MAX_LABELS]] or [f"no {group.name}"]
        elif isinstance(group, CategoricalGroup):
            texts.append(f"{group.name}: {row[group.name]} {_percent(row[f'{group.name}_score'])}")
        else:
            points += [(row[x], row[y]) for x, y in zip(group.labels[::2], group.labels[1::2], strict=True)]
    box = None if row["x"] is None else (row["x"], row["y"], row["width"], row["height"])
    return Subject(box, np.array(points, np.float64).reshape(-1, 2), tuple(texts))


def write_contact_sheet(pictures: Iterable[SheetPicture], path: Path, *, title: str) -> None:
    """Draw the first ``MAX_PICTURES`` pictures; equal pictures give equal bytes.

    Parameters
    ----------
    pictures : iterable of SheetPicture
        No more are taken from it than are drawn, and only their tiles are kept.
    path : pathlib.Path
        The JPEG to write.
    title : str
        What stands over them.

    Raises
    ------
    StylematchError
        If the file cannot be written.
    """
    tiles = [_tile(picture) for picture in islice(pictures, MAX_PICTURES)]
    columns = min(_MAX_COLUMNS, max(2, math.ceil(math.sqrt(len(tiles)))))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    size = (
        columns * (TILE_PX + _GAP_PX) + _GAP_PX,
        _HEADER_PX + sum(heights) + _GAP_PX * (len(rows) + 1),
    )
    sheet = Image.new("RGB", size, _PAPER)
    heading = _fitted(_ascii(title), _font(18), size[0] - 2 * _GAP_PX)
    ImageDraw.Draw(sheet).text((_GAP_PX, _GAP_PX), heading, _INK, _font(18))
    top = _HEADER_PX + _GAP_PX
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (_GAP_PX + column * (TILE_PX + _GAP_PX), top))
        top += height + _GAP_PX
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    write_durably(path, buffer.getvalue())


def _tile(picture: SheetPicture) -> Image.Image:
    texts = list(_lines(picture))
    tile = Image.new("RGB", (TILE_PX, TILE_PX + _LINE_PX * (len(texts) + 1) + 6), _PAPER)
    draw = ImageDraw.Draw(tile)
    draw.rectangle((0, 0, TILE_PX - 1, TILE_PX - 1), _BLANK)
    if picture.pixels is not None:
        tile.paste(_drawn(picture, picture.pixels), (0, 0))
    name = _ascii(picture.name)
    if _font(14).getlength(name) > TILE_PX:  # the end of a path says more than its beginning
        while _font(14).getlength(f"...{name}") > TILE_PX:
            name = name[1:]
        name = f"...{name}"
    draw.text((0, TILE_PX + 4), name, _INK, _font(14))
    for position, (text, colour) in enumerate(texts, start=1):
        top = TILE_PX + 4 + position * _LINE_PX
        if colour is not None:
            draw.rectangle((0, top + 4, 7, top + 11), colour)
        draw.text((12, top), text, _FAINT if picture.note else _INK, _font(13))
    return tile


def _drawn(picture: SheetPicture, pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Return the tile's upper part: the picture as large as fits, in the middle, marked."""
    height, width = pixels.shape[:2]
    scale = TILE_PX / max(width, height)
    fitted = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(fitted, Image.Resampling.BICUBIC, reducing_gap=3.0)
    draw = ImageDraw.Draw(image)
    to_tile = np.array(fitted) / np.maximum(picture.size_px, 1)
    for number, subject in enumerate(picture.subjects):
        colour, radius = _COLOURS[number % len(_COLOURS)], 3.0
        if subject.box is not None:
            corner, sides = np.array(subject.box[:2]) * to_tile, np.array(subject.box[2:]) * to_tile
            left, top = (float(value) for value in corner)
            right, bottom = (float(value) for value in np.maximum(corner + sides - 1, corner))
            radius = min(radius, max(1.0, (right - left) / 20))
            draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="black")
            draw.rectangle((left, top, right, bottom), outline=colour, width=2)
            if len(picture.subjects) > 1:
                above = max(top - 19, 0.0)
                draw.text((left, above), str(number), colour, _font(14), stroke_width=2, stroke_fill="black")
        for x, y in (subject.points * to_tile).tolist():
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour, "black" if radius > 2 else None)
    upper = Image.new("RGB", (TILE_PX, TILE_PX), _BLANK)
    upper.paste(image, ((TILE_PX - fitted[0]) // 2, (TILE_PX - fitted[1]) // 2))
    return upper


def _lines(picture: SheetPicture) -> Iterator[tuple[str, str | None]]:
    """Yield the lines under a tile, the first of each subject with its colour; what is too much is only counted."""
    if picture.note:
        yield _fitted(_ascii(picture.note), _font(13), TILE_PX - 12), None
        return
    used = 0
    several = len(picture.subjects) > 1
    for number, subject in enumerate(picture.subjects):
        lines = _wrapped([_ascii(text) for text in subject.labels], f"{number}: " if several else "")
        room = _MAX_LINES - used
        if len(lines) > room and number > 0:
            yield f"and {len(picture.subjects) - number} more", None
            return
        for position, line in enumerate(lines[:room]):
            marked = several and position == 0
            yield line, _COLOURS[number % len(_COLOURS)] if marked else None
        used += min(len(lines), room)


def _wrapped(words: list[str], start: str) -> list[str]:
    """Join labels by commas into lines that fit a tile; a label is not torn, only shortened where it must be."""
    lines = [start]
    width = TILE_PX - 12
    for position, word in enumerate(words):
        text = _fitted(word, _font(13), width - 20) + ("" if position == len(words) - 1 else ", ")
        if lines[-1] not in ("", start) and _font(13).getlength(lines[-1] + text.rstrip()) > width:
            lines.append("")
        lines[-1] += text
    return [line.rstrip() for line in lines]


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: float) -> str:
    """Return the text, its end cut off where it is too long."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"{text}...") > width_px:
        text = text[:-1]
    return f"{text}..."


def _ascii(text: str) -> str:
    return shown(text).encode("ascii", "backslashreplace").decode("ascii")


def _percent(probability: float) -> str:
    return f"{100 * probability:.0f} %"


_FONTS: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if size_px not in _FONTS:
        _FONTS[size_px] = ImageFont.load_default(size_px)
    return _FONTS[size_px]
