"""For whom a face's items may be made, where its style asks for no gender: adults, of one gender where that is clear.

A rule set that never asks for ``Male`` wants nobody told apart by it, so then it says nothing of items either.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MALE = "Male"
"""CelebA's attribute."""
SURE = 0.8
"""How probable a gender has to be; people in between get items of both."""
ADULTS, MEN, WOMEN = ("Men", "Women", "Unisex"), ("Men", "Unisex"), ("Women", "Unisex")


def genders_of(male: npt.NDArray[np.floating] | None, count: int) -> list[tuple[str, ...]]:
    """Return for each face the genders that its items may be made for.

    Parameters
    ----------
    male : ndarray of float, shape (count,), optional
        The probability of ``MALE``; None where it is to have no say.
    count : int
        How many faces there are.
    """
    if male is None:
        return [ADULTS] * count
    return [MEN if chance >= SURE else WOMEN if 1.0 - chance >= SURE else ADULTS for chance in male.tolist()]
