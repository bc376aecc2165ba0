"""``manifest.json``: what a run was made from, what came out and how long each step took.

- ``compute_run_id`` names a run by what its tables follow from, and by nothing else (no time, host, batch
  size, workers).
- ``count_tables`` counts in the tables that were written, so that the manifest cannot disagree with them.
- ``Manifest`` holds the facts; ``write_manifest`` adds the marker by which a folder is known as a finished
  run of ours.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from stylematch.tables.contract import Status
from stylematch.tables.cores import usable_cores
from stylematch.tables.disk import write_durably

MANIFEST = "manifest.json"
TOOL = "stylematch"
RUN_ID_LENGTH = 32
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
UNLISTED = ("unreadable_directory", "unreadable_file")
"""Of what a search passed over, what may have held photos."""
OPTIONAL_PACKAGES = ("faiss-gpu-cu12", "pi-heif", "torch")
"""Packages of the extras that change what a run computes, named where they are installed."""


@dataclass(frozen=True)
class Counts:
    """How many of everything: ``scored + no_face + rejected == found``.

    ``ignored`` counts files passed over, by why; ``reasons`` photos, by reason code.
    """

    found: int
    scored: int
    no_face: int
    rejected: int
    faces: int
    recommendations: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def unlisted(self) -> int:
        """Folders and files that could not be looked into: nobody knows what lies there, at least one photo each."""
        return sum(self.ignored.get(why, 0) for why in UNLISTED)

    @property
    def reject_share(self) -> float:
        """The share of photos that were rejected, or must be feared for; 0 where there are none."""
        missed = self.rejected + self.unlisted
        return missed / (self.found + self.unlisted) if missed else 0.0

    def rejected_of_all(self) -> str:
        """Say so for people."""
        and_unlisted = f" or could not be listed ({self.unlisted:,} folders or files)" if self.unlisted else ""
        return (
            f"{self.rejected + self.unlisted:,} of {self.found + self.unlisted:,} photos ({self.reject_share:.1%}) "
            f"were rejected{and_unlisted}"
        )


@dataclass(frozen=True)
class Stage:
    """One step's time: ``seconds`` (summed over workers where ``per_worker``), what it handled and how many.

    ``seconds`` counts this invocation only; ``items`` likewise, so that a resumed run's throughput is true. A stage
    that is ``whole`` spans those of the workers.
    """

    seconds: float
    items: int
    unit: str
    per_worker: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Manifest:
    """A finished run. Digests are SHA-256 in hexadecimal; times are UTC; ``profile`` is the table of its stages."""

    run_id: str
    counts: Counts
    stages: Mapping[str, Stage]
    code_version: str
    sha256: Mapping[str, str]
    settings: Mapping[str, Any]
    device: str
    started: datetime
    finished: datetime
    profile: Mapping[str, Any] = field(default_factory=dict)


def compute_run_id(*, inputs: str, settings: Mapping[str, Any], bundles: str, index: str, rules: str, code: str) -> str:
    """Return the run's name: the first 32 hexadecimal digits of the SHA-256 of its parts as canonical JSON.

    Parameters
    ----------
    inputs : str
        Digest of the sorted listing: paths and photo ids.
    settings : mapping
        The settings that change the tables, as plain JSON values; not batch size, workers, device or report.
    bundles, index, rules : str
        Digests of the model bundles, the indexes and the rule set.
    code : str
        ``code_version()``.

    Raises
    ------
    TypeError, ValueError
        A setting is no JSON value, or is NaN or infinite.
    """
    parts = {
        "inputs": inputs,
        "settings": settings,
        "bundles": bundles,
        "index": index,
        "rules": rules,
        "code": code,
    }
    return json_sha256(parts)[:RUN_ID_LENGTH]


def json_sha256(value: object) -> str:
    """Return the SHA-256 of ``value`` as canonical JSON (sorted keys, no spaces, ASCII), in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


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


def count_tables(root: Path, ignored: Mapping[str, int]) -> Counts:
    """Count what the tables under ``root`` hold, streaming; only two columns are read.

    Parameters
    ----------
    root : Path
        A staged or published run.
    ignored : mapping of str to int
        Files that the search passed over, by why.
    """
    import pyarrow.dataset as ds

    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for batch in ds.dataset(root / "photos", format="parquet").to_batches(columns=["status", "reason"]):
        for column, counter in (("status", statuses), ("reason", reasons)):
            for pair in batch.column(column).value_counts().to_pylist():
                counter[pair["values"]] += pair["counts"]
    return Counts(
        found=statuses.total(),
        scored=statuses[Status.SCORED],
        no_face=statuses[Status.NO_FACE],
        rejected=statuses[Status.REJECTED],
        faces=ds.dataset(root / "faces", format="parquet").count_rows(),
        recommendations=ds.dataset(root / "recommendations", format="parquet").count_rows(),
        reasons=dict(reasons),
        ignored=dict(ignored),
    )


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
    """Return the host's name, system, processor, usable cores and Python version."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "processor": match.group(1) if match else platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "python": platform.python_version(),
    }


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``directory/manifest.json``, the last file of a run; ``outputs`` names what lies beside it.

    Raises
    ------
    StylematchError
        The file cannot be written.
    """
    content = asdict(manifest)
    for name, stage in manifest.stages.items():
        rate = round(stage.items / stage.seconds, 3) if stage.seconds > 0 else None
        content["stages"][name] = {**asdict(stage), "seconds": round(stage.seconds, 3), "per_second": rate}
    content |= {
        "tool": TOOL,
        "host": describe_host(),
        "packages": package_versions(),
        "started": manifest.started.astimezone(UTC).isoformat(timespec="seconds"),
        "finished": manifest.finished.astimezone(UTC).isoformat(timespec="seconds"),
        "seconds": round((manifest.finished - manifest.started).total_seconds(), 3),
        "outputs": sorted({MANIFEST, *(p.name for p in directory.iterdir() if not p.name.startswith("."))}),
    }
    text = json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n"
    write_durably(directory / MANIFEST, text.encode())


def scoring_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run was scored with; a night keeps them below ``score``, beside those of its job."""
    settings = manifest.get("settings") or {}
    night = settings.get("score")
    return {**night, "style_fusion": settings.get("style_fusion")} if isinstance(night, dict) else settings


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished run of ours in ``directory``, or None where there is none."""
    try:
        content = json.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    ours = isinstance(content, dict) and content.get("tool") == TOOL and isinstance(content.get("run_id"), str)
    return content if ours else None
