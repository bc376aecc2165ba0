"""Tests that compute in bfloat16 are skipped, with the reason, where that cannot be."""

import pytest

from stylematch.errors import UserError
from stylematch.vision.bfloat16 import check_bfloat16


def _why_not() -> str:
    try:
        check_bfloat16()
    except UserError as error:
        return str(error)
    return ""


needs_bfloat16 = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "it is there")
EITHER_PRECISION = [pytest.param(False, id="float32"), pytest.param(True, id="bfloat16", marks=needs_bfloat16)]
"""For tests of what holds for a bundle's graph whatever computes it: the values of ``CpuRuntime``'s ``bfloat16``."""
