"""``style.json``: what was fitted to rule sets over one face gallery; it lies beside the gallery's directory.

A collection's gallery is its ``faces/``; of one that stands alone, perhaps beside others, the file has its name, too.

A fit holds for one rule set, one gallery and one attribute model, each known by its SHA-256; for anything else there
is none, and the defaults of ``VoteSettings`` and ``PoolWeights`` are used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stylematch.errors import UserError
from stylematch.style.fusion import PoolWeights
from stylematch.style.neighbours import VoteSettings
from stylematch.tables.disk import write_durably
from stylematch.tables.shown import shown

STYLE_FILE = "style.json"
_PART = "faces"
_FORMAT = 2
_OLD_FORMATS = (1,)  # which pooled the neighbours' plain vote


@dataclass(frozen=True)
class Fit:
    """What was fitted.

    Attributes
    ----------
    vote : VoteSettings
        How neighbours vote.
    weights : PoolWeights
        What each opinion counts.
    log_loss : float
        Of the pool, cross-validated over people.
    is_alone : bool
        Whether it is of the neighbours alone, whose plain vote was fitted.
    """

    vote: VoteSettings
    weights: PoolWeights
    log_loss: float
    is_alone: bool = False


def own_fits_path(faces: Path) -> Path:
    """Return where fits over a face gallery are written, given its directory: beside it, not beside what it leads to.

    A link to the shipped gallery is no leave to change the shipped fits.
    """
    return _beside(Path(os.path.normpath(faces.absolute())))


def fits_path(faces: Path) -> Path:
    """Return where the fits over a face gallery are read, given its directory, however that is spelled.

    They lie beside the path itself; beside what it leads to where it is a link that has none of its own.
    """
    own, real = own_fits_path(faces), _beside(faces.resolve())
    return real if real.is_file() and not own.is_file() else own


def _beside(place: Path) -> Path:
    return place.with_name(STYLE_FILE if place.name == _PART else f"{place.name}.{STYLE_FILE}")


def write_fits(path: Path, fits: Mapping[str, tuple[str, Fit]], gallery: Mapping[str, str], about: str) -> None:
    """Write fits; those to other rule sets over the same gallery and model stay.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    fits : mapping of str to (str, Fit)
        By a rule set's SHA-256: its name and fit.
    gallery : mapping of str to str
        The SHA-256 of the ``bundle`` and of the ``faces``.
    about : str
        Whom they were fitted to.
    """
    known = _read(path) if path.is_file() else None
    kept = known["fits"] if known and known["sha256"] == dict(gallery) else {}
    entries = {
        sha256: {
            "rules": name,
            "fitted_to": about,
            "vote": asdict(fit.vote),
            "weights": {key: round(value, 4) for key, value in asdict(fit.weights).items()},
            "log_loss": round(fit.log_loss, 4),
        }
        for sha256, (name, fit) in fits.items()
    }
    content = {"format": _FORMAT, "sha256": dict(gallery), "fits": {**kept, **entries}}
    write_durably(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())


def find_fit(path: Path, rules_sha256: str, gallery: Mapping[str, str]) -> Fit | None:
    """Return the fit to a rule set over a gallery, None where there is none.

    Raises
    ------
    UserError
        The file is damaged.
    """
    if not path.is_file():
        return None
    known = _read(path)
    if known is None or known["sha256"] != dict(gallery) or rules_sha256 not in known["fits"]:
        return None
    try:
        entry = known["fits"][rules_sha256]
        return Fit(VoteSettings(**entry["vote"]), PoolWeights(**entry["weights"]), float(entry["log_loss"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path) from error


def _read(path: Path) -> dict[str, Any] | None:
    """Return what the file says, None where that is of a pool that is no longer used."""
    try:
        known = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise _damaged(path) from error
    if isinstance(known, dict) and known.get("format") in _OLD_FORMATS:
        return None
    if not isinstance(known, dict) or known.get("format") != _FORMAT or not {"sha256", "fits"} <= set(known):
        raise _damaged(path)
    return known


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{shown(path)} is damaged; remove it (defaults are used then) or run 'stylematch-batch rules fit'."
    )
