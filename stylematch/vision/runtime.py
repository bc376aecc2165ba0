"""Run a model bundle: ONNX Runtime on the CPU, torch on CUDA, OpenVINO on a CPU in bfloat16; same input, same output.

On one thread ONNX Runtime gives a picture the same bits whatever the batch it comes in, which the tables' byte-equality
rests on (a test holds it to that). On more it chooses other algorithms for small batches and rounds otherwise, so more
threads are used by giving each a share of the batch. TF32 is off on CUDA, so that the two devices stay within a stated
tolerance. bfloat16 is further away from both, so it is a device of its own, and only whoever asks for it gets it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stylematch.errors import MissingExtraError, UserError
from stylematch.tables.description import unchanged
from stylematch.vision.bfloat16 import Bfloat16Session, check_bfloat16
from stylematch.vision.bundle import GRAPH, Bundle, damaged

DEVICES = ("auto", "cpu", "cpu-bf16", "cuda")
# Of one call to ONNX Runtime: layers of more pictures fall out of the processor's cache (32 take 8 % longer, 64 25 %).
_CALL_PICTURES = 8


@dataclass(frozen=True)
class Predictions:
    """What a model says of n pictures.

    Attributes
    ----------
    embedding : ndarray of float32, shape (n, embedding_dim)
        L2-normalised.
    heads : dict of str to ndarray of float32, shape (n, width)
        By label group: probabilities, or points in units of the crop's side.
    """

    embedding: npt.NDArray[np.float32]
    heads: dict[str, npt.NDArray[np.float32]]


class Runtime(Protocol):
    """Anything that runs a bundle."""

    bundle: Bundle

    def run(self, pixels: npt.NDArray[np.uint8]) -> Predictions:
        """Predict for pictures, uint8 (n, side, side, channels)."""
        ...


class CpuRuntime:
    """A bundle's graph on the CPU, by ONNX Runtime, or in bfloat16 by OpenVINO.

    Parameters
    ----------
    bundle : Bundle
        The model.
    threads : int
        Threads that share a call's pictures.
    bfloat16 : bool
        Whether to compute in bfloat16.

    Raises
    ------
    UserError
        If the graph or the weights are damaged, or bfloat16 is asked for where there is none.
    """

    def __init__(self, bundle: Bundle, threads: int = 1, *, bfloat16: bool = False) -> None:
        self.bundle = bundle
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        graph = bundle.directory / GRAPH
        if bfloat16:
            check_bfloat16()
        try:
            self._run = Bfloat16Session(graph, _CALL_PICTURES, threads).run if bfloat16 else _float32(graph)
        except Exception as error:  # its exceptions share no base of their own
            raise damaged(bundle, error) from error

    def run(self, pixels: npt.NDArray[np.uint8]) -> Predictions:
        """Predict for pictures, uint8 (n, side, side, channels)."""
        checked = _checked(self.bundle, pixels)
        calls = max(1, -(-len(checked) // _CALL_PICTURES), min(self._threads, len(checked)))
        shares = np.array_split(checked, calls)
        if calls == 1:
            return _predictions(self.bundle, self._run(shares[0]))
        done = list(map(self._run, shares) if self._pool is None else self._pool.map(self._run, shares))
        return _predictions(self.bundle, [np.concatenate(outputs) for outputs in zip(*done, strict=True)])


class TorchRuntime:
    """Torch, for CUDA (and, in tests, for the CPU).

    Parameters
    ----------
    bundle : Bundle
        The model.
    device : str
        A torch device.

    Raises
    ------
    UserError
        If torch is missing, or the weights are damaged or do not fit the architecture.
    """

    def __init__(self, bundle: Bundle, device: str) -> None:
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("Running on a GPU", "gpu") from error

        from stylematch.vision.stored_network import load_network

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.bundle = bundle
        self._torch, self._device = torch, device
        self._network = load_network(bundle).eval().to(device)

    def run(self, pixels: npt.NDArray[np.uint8]) -> Predictions:
        """Predict for pictures, uint8 (n, side, side, channels)."""
        with self._torch.inference_mode():
            writable = np.require(_checked(self.bundle, pixels), requirements="W")  # torch warns of other arrays
            tensor = self._torch.from_numpy(writable).to(self._device)
            return _predictions(self.bundle, [output.cpu().numpy() for output in self._network(tensor)])


def run_in_batches(
    runtime: Runtime,
    pixels: npt.NDArray[np.uint8],
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Predictions:
    """Predict for any number of pictures.

    Parameters
    ----------
    runtime : Runtime
        The model.
    pixels : ndarray of uint8, shape (n, side, side, channels)
        At least one picture.
    batch_size : int
        Pictures of one call.
    advance : callable
        Told how many more pictures are done.
    """
    parts = []
    for start in range(0, len(pixels), batch_size):
        parts.append(runtime.run(pixels[start : start + batch_size]))
        advance(len(parts[-1].embedding))
    return Predictions(
        np.concatenate([part.embedding for part in parts]),
        {name: np.concatenate([part.heads[name] for part in parts]) for name in parts[0].heads},
    )


def load_runtime(bundle: Bundle, device: str = "auto", threads: int = 1) -> Runtime:
    """Load a bundle on a device.

    Parameters
    ----------
    bundle : Bundle
        The model.
    device : {"auto", "cpu", "cpu-bf16", "cuda"}
        "auto" is CUDA where torch is installed and sees a GPU, else the CPU in 32 bits.
    threads : int
        Threads of one call on the CPU.

    Raises
    ------
    UserError
        If CUDA or bfloat16 was asked for and is not there, or the bundle is damaged.
    StylematchError
        If the bundle was replaced since it was opened.
    """
    resolved = resolve_device(device)
    with unchanged(bundle):
        if resolved == "cuda":
            return TorchRuntime(bundle, "cuda")
        return CpuRuntime(bundle, threads, bfloat16=resolved == "cpu-bf16")


def resolve_device(device: str) -> str:
    """Turn "auto" into "cuda" or "cpu", and refuse a CUDA or a bfloat16 that is not there."""
    if device not in DEVICES:
        raise UserError(f"--device {device} is unknown; choose one of {', '.join(DEVICES)}.")
    if device == "cpu-bf16":
        check_bfloat16()
        return device
    if device == "cpu" or (device == "auto" and not _has_cuda_driver()):
        return "cpu"
    try:
        import torch
    except ImportError as error:
        if device == "cuda":
            raise MissingExtraError("--device cuda", "gpu") from error
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UserError("--device cuda was asked for, but torch sees no CUDA device; use --device cpu or auto.")
    return "cpu"


def cpu_session(graph: str | bytes) -> Any:
    """Return ONNX Runtime's session of a graph, on the CPU and on the caller's thread alone.

    Parameters
    ----------
    graph : str or bytes
        An ONNX file's path, or its contents.

    Raises
    ------
    Exception
        Some kind of ONNX Runtime's, where the graph is damaged.
    """
    # Since 1.29 its Linux wheels report every session to their maker, unless this is set before they are loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _float32(graph: Path) -> Callable[[npt.NDArray[np.uint8]], list[Any]]:
    session = cpu_session(str(graph))
    return lambda pixels: list(session.run(None, {"pixels": pixels}))


def _has_cuda_driver() -> bool:
    """Return whether NVIDIA's driver is here and may show a GPU; to ask torch takes the seconds of its import."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _checked(bundle: Bundle, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    expected = (bundle.input_px, bundle.input_px, bundle.channels)
    if pixels.ndim != 4 or pixels.shape[1:] != expected or pixels.dtype != np.uint8:
        raise ValueError(f"{bundle.name} takes uint8 (n, {expected}), not {pixels.dtype} {pixels.shape}")
    return np.ascontiguousarray(pixels)


def _predictions(bundle: Bundle, outputs: list[Any]) -> Predictions:
    names = [group.name for group in bundle.schema.groups]
    return Predictions(outputs[0], dict(zip(names, outputs[1:], strict=True)))
