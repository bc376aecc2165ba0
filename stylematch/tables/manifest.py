"""``manifest.json``: what a run was made from, what came out and how long each step took.

- ``compute_run_id`` names a run by what its tables follow from, and by nothing else (no time, host, batch
  size, workers).
- ``Manifest`` holds the facts; ``write_manifest`` adds the marker by which a folder is known as a finished
  run of ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stylematch.tables.counts import Counts, are_counts
from stylematch.tables.disk import write_durably
from stylematch.tables.environment import describe_host, package_versions

MANIFEST = "manifest.json"
TOOL = "stylematch"
RUN_ID_LENGTH = 32
_HOLDS = {"counts": dict, "sha256": dict, "settings": dict, "packages": dict, "outputs": list}


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
    """A finished run. Digests are SHA-256 in hexadecimal; times are UTC; ``profile`` is the table of its stages.

    ``unreadable_directories`` are the first of the folders that could not be listed: what lies in them is in no table.
    """

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
    unreadable_directories: Sequence[str] = ()


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


def made_by(manifest: Mapping[str, Any]) -> str:
    """Return the command that a run's manifest is of."""
    settings = manifest.get("settings") or {}
    return str(settings.get("command") or ("export" if isinstance(settings.get("score"), dict) else "score"))


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest of a finished run of ours in ``directory``, or None where there is none that is whole."""
    try:
        return parse_manifest((directory / MANIFEST).read_bytes())
    except OSError:
        return None


def is_named_as_ours(directory: Path) -> bool:
    """Return whether a directory's manifest says that it is of a run of ours, though it may be damaged elsewhere."""
    try:
        return _is_ours(parse_object((directory / MANIFEST).read_bytes()))
    except OSError:
        return False


def _is_ours(content: dict[str, Any]) -> bool:
    return content.get("tool") == TOOL and isinstance(content.get("run_id"), str)


def parse_manifest(data: bytes | None) -> dict[str, Any] | None:
    """Return what the bytes of a manifest say; None if they are damaged, or not of a run of ours.

    A byte that changed in a name leaves JSON that can be read and lacks what its readers count on.
    """
    content = parse_object(data)
    if not _is_ours(content) or not all(isinstance(content.get(name), kind) for name, kind in _HOLDS.items()):
        return None
    # Those of other commands count other things.
    return content if "command" in content["settings"] or are_counts(content["counts"]) else None


def parse_object(data: bytes | None) -> dict[str, Any]:
    """Return the JSON object that a file holds; a damaged one, or none, is empty."""
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
