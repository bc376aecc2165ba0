"""Which pictures a model learned from, so that none of them is ever measured as if it were new.

A training writes short digests of the names it learned from (BLAKE2b, RFC 7693, of 8 bytes each) into its bundle, where
other folders may share the data set's pictures out otherwise. The split so holds for the same folder with pictures
added or taken away, and all of another folder is new.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

_DIGEST_BYTES = 8
_DIGEST = np.dtype("<u8")


def digest_names(names: Iterable[str]) -> str:
    """Return names as one line of text that tells whether a name was among them, but none of the names.

    Parameters
    ----------
    names : iterable of str
        Pictures' file names; their order and repetitions don't matter.

    Returns
    -------
    str
        Ascending digests of 8 bytes each, little-endian, in base64.
    """
    return base64.b64encode(np.unique(_digests(list(names))).tobytes()).decode("ascii")


def are_among(names: Sequence[str], text: str) -> npt.NDArray[np.bool_]:
    """Return which names were among those that ``digest_names`` was given.

    Parameters
    ----------
    names : sequence of str
        n names.
    text : str
        What ``digest_names`` returned.

    Returns
    -------
    ndarray of bool, shape (n,)
        A name that was not among k names is taken for one of them once in 2**64 / k times.

    Raises
    ------
    ValueError
        If the text is no such line.
    """
    try:
        known = np.frombuffer(base64.b64decode(text, validate=True), _DIGEST)
    except binascii.Error as error:
        raise ValueError(f"no digests of names: {error}") from error
    return np.isin(_digests(names), known)


def _digests(names: Sequence[str]) -> npt.NDArray[np.uint64]:
    each = (hashlib.blake2b(_bytes(name), digest_size=_DIGEST_BYTES).digest() for name in names)
    return np.frombuffer(b"".join(each), _DIGEST)


def _bytes(name: str) -> bytes:
    # A name that is no Unicode text comes from the file system with surrogates in it.
    return name.encode("utf-8", "surrogatepass")
