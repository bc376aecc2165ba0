"""What a run is made by: this package's code, the packages under it, and the host."""

from __future__ import annotations

import functools
import hashlib
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from stylematch.tables.cores import usable_cores

# The dependencies that every run needs; a test holds them to pyproject.toml.
PACKAGES = (
    "duckdb",
    "faiss-cpu",
    "numpy",
    "onnxruntime",
    "pandas",
    "pillow",
    "orjson",
    "pyarrow",
    "pydantic",
    "safetensors",
    "simplejpeg",
    "tqdm",
    "typer",
)
FAISS_FOR_GPU = (
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "faiss-gpu-cu11",
    "faiss-gpu-cu12",
    "faiss-gpu-cu12-cuvs",
    "faiss-gpu-cu13-cuvs",
    "faiss-cuda",
)
"""Packages that own the module of faiss-cpu, of which one may stand in its place: FAISS's own two, and others'."""
OPTIONAL_PACKAGES = (*FAISS_FOR_GPU, "openvino", "pi-heif", "torch")
"""Packages that change what a run computes, named where they are installed."""

_VECTORS = ("avx512_bf16", "avx512_vnni", "avx512f", "avx2", "avx")


@functools.cache
def code_version() -> str:
    """Return the package's version and 12 digits of the SHA-256 of its sources: ``0.1.0+0123456789ab``.

    The version alone would not tell two checkouts apart, and a run's results follow from the code.
    """
    from stylematch import __version__

    return f"{__version__}+{sources_sha256()[:12]}"


def sources_sha256(*parts: str) -> str:
    """Return the SHA-256 of the package's sources, or of those parts of it (folders and files, such as ``vision``)."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        name = path.relative_to(root)
        if not parts or any(name.is_relative_to(part) for part in parts):
            source = path.read_bytes()
            digest.update(f"{name.as_posix()}\0{len(source)}\0".encode())
            digest.update(source)
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Return the installed versions: of every runtime dependency (``"absent"`` where there is none), and of extras."""
    versions = {}
    for name in PACKAGES + OPTIONAL_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in PACKAGES:
                versions[name] = "absent"
    return dict(sorted(versions.items()))


def describe_host() -> dict[str, str | int | None]:
    """Return the host's name, system, processor, its widest vectors, usable cores and Python version."""
    try:
        known = Path("/proc/cpuinfo").read_text()
    except OSError:
        known = ""
    model = re.search(r"^model name\s*:\s*(.+)$", known, re.MULTILINE)
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": model.group(1) if model else platform.processor() or platform.machine(),
        "vectors": widest_vectors(known),
        "cores": usable_cores(),
        "python": platform.python_version(),
    }


def processor_of(host: Mapping[str, Any]) -> str:
    """Return a described host's processor with its vectors, for people."""
    return f"{host['processor']} ({host['vectors']})" if host["vectors"] else host["processor"]


def widest_vectors(cpuinfo: str) -> str | None:
    """Return an x86 processor's widest vector instructions, as ``/proc/cpuinfo`` calls them; None where it names none.

    A virtual machine often calls its processor by its family alone, whose members are two and a half times apart.
    """
    flags = re.search(r"^flags\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    told = flags.group(1).split() if flags else []
    return next((name for name in _VECTORS if name in told), None)
