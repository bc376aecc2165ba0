"""Where ``rules fit`` writes: beside the gallery that was fitted to, or into a folder of its own.

The shipped gallery lies in the package: whoever runs stylematch may not be allowed to write there, and a new release
replaces what does lie there. So the fit of somebody's own rules goes elsewhere, with a copy of the gallery, by which
``score --index`` finds both.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from stylematch.errors import UserError
from stylematch.pipelines.assets import default_index
from stylematch.style.fits import STYLE_FILE, Fit, own_fits_path, write_fits
from stylematch.style.rules import shipped_rule_sets
from stylematch.tables.disk import check_writable
from stylematch.tables.replace import DirectoryKind
from stylematch.tables.shown import shown

_GALLERY = "faces"
FITS = DirectoryKind("fits of rules and their gallery", STYLE_FILE, lambda _, name: name == _GALLERY)


class FitPlace:
    """Where fits go; whether that may be is known before anything is computed.

    Parameters
    ----------
    gallery : pathlib.Path
        The directory of the face gallery.
    rule_sets : sequence of str
        What is fitted, names of shipped sets or files.
    out : pathlib.Path, optional
        A folder for the fits and a copy of the gallery; without it they go beside the gallery.

    Raises
    ------
    UserError
        The place may not be written, or is that of the shipped fits and the rules are somebody's own.
    """

    def __init__(self, gallery: Path, rule_sets: Sequence[str], out: Path | None) -> None:
        self._gallery, self._out = gallery, out
        if out is not None:
            self.file = FITS.check(out) / STYLE_FILE
            return
        self.file = own_fits_path(gallery)
        own = [name for name in rule_sets if name not in shipped_rule_sets()]
        if own and self.file.parent.resolve() == default_index().resolve():
            folder = f"indexes/{Path(own[0]).stem}"
            raise UserError(
                f"{shown(own[0])} does not ship, and {shown(self.file.parent)}, where the shipped gallery has its "
                f"fits, is replaced by a new release: name a folder of yours, such as --out {shown(folder)}, and that "
                "to 'score --index', beside your catalogue if you have one."
            )
        try:
            check_writable(self.file.parent)
        except UserError as error:
            raise UserError(f"{error}, by --out") from error

    def write(self, fits: Mapping[str, tuple[str, Fit]], gallery: Mapping[str, str], about: str) -> Path:
        """Write fits, as ``write_fits`` does, and return where; those to other rule sets stay."""
        if self._out is None:
            write_fits(self.file, fits, gallery, about)
            return self.file
        with FITS.replaced(self._out) as staged:
            if self.file.is_file():
                shutil.copyfile(self.file, staged / STYLE_FILE)
            shutil.copytree(self._gallery, staged / _GALLERY)
            write_fits(staged / STYLE_FILE, fits, gallery, about)
        return self.file
