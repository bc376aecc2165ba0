"""A bundle's graph in bfloat16 on the CPU, by OpenVINO: half the time of 32 bits, where a processor computes in it.

Every call has the same shape: fewer pictures than it takes are filled up with black ones, so that a picture has the
same bits whatever batch it comes in. Each thread has a request of its own, which one core computes.

OpenVINO tells its maker of every import unless it finds no package to tell it by, so it is shown none.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stylematch.errors import MissingExtraError, UserError
from stylematch.tables.hidden import hidden


class Bfloat16Session:
    """One compiled graph.

    Parameters
    ----------
    graph : Path
        The ONNX file.
    pictures : int
        How many a call takes at most.
    threads : int
        How many threads are going to call at once.

    Raises
    ------
    Exception
        Some kind of OpenVINO's, where the graph is damaged.
    """

    def __init__(self, graph: Path, pictures: int, threads: int) -> None:
        core, onnx = _openvino()
        model = onnx.convert(onnx.load(str(graph)))
        (pixels,) = model.inputs
        self._shape = (pictures, *(length.get_length() for length in list(pixels.partial_shape)[1:]))
        model.reshape(list(self._shape))
        # Pinned threads of two processes would share one core, and leave the other idle.
        settings = {
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16",
            "NUM_STREAMS": threads,
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._outputs = [output.any_name for output in self._compiled.outputs]
        self._thread = threading.local()
        # The first call makes what the whole process needs; two threads that did so would wait for each other for ever.
        self.run(np.zeros((0, *self._shape[1:]), np.uint8))

    def run(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """Return the graph's outputs for pictures, uint8 (n, side, side, channels) of at most ``pictures``."""
        if not hasattr(self._thread, "request"):
            self._thread.request = self._compiled.create_infer_request()
        request, count = self._thread.request, len(pixels)
        filled = request.get_input_tensor().data
        filled[:count], filled[count:] = pixels, 0
        request.infer()
        return [request.get_tensor(name).data[:count].copy() for name in self._outputs]


def check_bfloat16() -> None:
    """Refuse bfloat16 where it cannot be computed in.

    Raises
    ------
    MissingExtraError
        If OpenVINO is not installed.
    UserError
        If this processor would only imitate it.
    """
    core, _ = _openvino()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UserError("--device cpu-bf16 was asked for, but this processor has no bfloat16; use --device cpu.")


@functools.cache
def _openvino() -> tuple[Any, Any]:
    """Return its core, and what reads ONNX files and no others."""
    try:
        with hidden("openvino_telemetry"):
            import openvino
            import openvino.frontend
    except ImportError as error:
        raise MissingExtraError("--device cpu-bf16", "openvino") from error
    return openvino.Core(), openvino.frontend.FrontEndManager().load_by_framework("onnx")
