"""The votes that workers kept (``votes``), read back for the gallery's pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

from stylematch.errors import StylematchError
from stylematch.report.join import JoinedFace
from stylematch.report.page_rows import LabelledFace, NearestFaces
from stylematch.tables.shown import shown


class KeptVotes:
    """Hands out the votes again, face after face as the run's tables have them.

    Parameters
    ----------
    paths : iterator of Path
        The partitions' files, in order; each is read when its first face is asked for.
    labelled : callable
        Takes a position in the gallery and its style, returns the labelled face.
    """

    def __init__(self, paths: Iterator[Path], labelled: Callable[[int, str], LabelledFace]) -> None:
        self._labelled = labelled
        self._entries = (orjson.loads(line) for path in paths for line in path.read_bytes().splitlines())

    def __call__(self, faces: Sequence[JoinedFace]) -> list[NearestFaces]:
        """Return the votes on the next faces.

        Raises
        ------
        StylematchError
            If they are not those that were voted on next.
        """
        found = []
        for face in faces:
            key = (face.row["path"], face.row["face"])
            path, number, shares, nearest = next(self._entries, (None, None, [], []))
            if (path, number) != key:
                raise StylematchError(
                    f"the kept votes do not fit the tables at face {key[1]} of {shown(key[0])}: remove the run's "
                    "unfinished folder and score again"
                )
            known = [(self._labelled(position, style), similarity) for position, style, similarity in nearest]
            found.append(NearestFaces([(style, share) for style, share in shares], known))
        return found
