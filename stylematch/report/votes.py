"""What the nearest labelled faces said of each face, kept for the gallery in ``report/votes/part-NNNNN.jsonl``.

The tables hold only what a vote came to. The worker that took it writes it down, so that nothing is searched twice; the
folder goes when the run is published. A file has one JSON line a face, in the order of the photos:
``[path, face, [[style, share], ...], [[position, style, similarity], ...]]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from stylematch.style.neighbours import Vote
from stylematch.tables.disk import explained, write_durably

NEAREST_SHOWN = 5
SHARES_SHOWN = 3
VOTES_FOLDER = "votes"


def votes_path(report: Path, partition: int) -> Path:
    """Return where a partition's votes lie."""
    return report / VOTES_FOLDER / f"part-{partition:05d}.jsonl"


class VoteKeeper:
    """Keeps what the gallery shows of a partition's votes, batch by batch.

    Parameters
    ----------
    report : Path
        The gallery's folder.
    partition : int
        The partition's number.
    styles : sequence of str
        The styles' names.
    """

    def __init__(self, report: Path, partition: int, styles: Sequence[str]) -> None:
        self._path, self._styles = votes_path(report, partition), styles
        self._lines: list[bytes] = []

    def __call__(self, faces: Mapping[str, Sequence[Any]], vote: Vote) -> None:
        """Take the next faces, by ``path`` and ``face``, and the vote on them."""
        best = np.argsort(-vote.distribution, axis=1, kind="stable")[:, :SHARES_SHOWN]
        columns = (vote.distribution, vote.positions, vote.styles, vote.similarities)
        for path, face, of, shares, *nearest in zip(faces["path"], faces["face"], best, *columns, strict=True):
            positions, styles, similarities = (column[:NEAREST_SHOWN].tolist() for column in nearest)
            named = [self._styles[style] for style in styles]
            entry = (
                path,
                face,
                [(self._styles[style], float(shares[style])) for style in of],
                list(zip(positions, named, similarities, strict=True)),
            )
            self._lines.append(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    def write(self) -> None:
        """Write the file."""
        with explained("write", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._path, b"".join(self._lines))
