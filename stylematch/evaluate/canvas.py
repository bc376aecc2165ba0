"""Figures on matplotlib's Agg canvas, written as PNG: no window, no pyplot, no state left behind, equal bytes.

What all plots share: an empty figure, names that fit beside an axis, a title that may come from elsewhere.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from stylematch.errors import MissingExtraError
from stylematch.tables.disk import write_durably
from stylematch.tables.shown import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_LONGEST_NAME = 32


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty figure that needs no display; raises ``MissingExtraError`` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing plots", "train") from error
    return Figure(figsize=(width_inches, height_inches), dpi=_DPI, layout="constrained")


def write_figure(path: Path, figure: Figure, axes: Axes, title: str, *, trimmed: bool = False) -> None:
    """Write a figure as a PNG under a title that may come from elsewhere; trimmed, without an empty margin."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    axes.set_title(shown(title), fontsize=10, parse_math=False)
    picture = io.BytesIO()
    canvas, metadata = FigureCanvasAgg(figure), {"Software": None}  # it would name matplotlib's version
    with warnings.catch_warnings():
        # Labels may be of any script; a letter that the font lacks is drawn as a box, and stands in the card.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        if trimmed:  # axes whose shape is given leave what the figure has more
            canvas.print_figure(picture, format="png", dpi=_DPI, metadata=metadata, bbox_inches="tight")
        else:
            canvas.print_png(picture, metadata=metadata)
    write_durably(path, picture.getvalue())


def write_bars(path: Path, figure: Figure, axes: Axes, title: str, *, columns: int) -> None:
    """Write a figure of lying bars: a grid behind them, what they mean below in so many columns, the title above."""
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    legend_below(figure, axes, columns=columns)
    write_figure(path, figure, axes, title)


def legend_below(figure: Figure, axes: Axes, *, columns: int) -> None:
    """Say below the axes what the colours mean."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def shortened(name: str) -> str:
    """Return a name that fits beside an axis."""
    name = shown(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
