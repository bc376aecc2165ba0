"""The shards of a table's folder: what they are called, and which of them are done.

- A shard is done when its sidecar ``_done/part-NNNNN.json`` (rows, bytes, sha256) exists and fits it. One that is
  written again stays done until the new one takes its place.
- Readers of the folder as one data set (pyarrow, pandas, DuckDB, Spark) skip names that start with ``_`` or
  ``.``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stylematch.tables.disk import file_sha256, write_durably

DONE_DIRECTORY = "_done"


@dataclass(frozen=True)
class ShardInfo:
    """What a sidecar says about its shard."""

    rows: int
    bytes: int
    sha256: str


def verified_parquet() -> Any:
    """Return pyarrow's Parquet format whose pages are held to their checksums: a flipped bit is no value."""
    import pyarrow.dataset as ds

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.ParquetFileFormat(default_fragment_scan_options=options)


def shard_path(directory: Path, number: int) -> Path:
    """Return where partition ``number``'s shard of the table in ``directory`` lies."""
    return directory / f"part-{number:05d}.parquet"


def shard_paths(directory: Path) -> list[Path]:
    """Return the shards of the table in ``directory`` by name, which is the order of their paths."""
    return sorted(directory.glob("*.parquet"))


def sidecar_path(directory: Path, number: int) -> Path:
    """Return where the sidecar of partition ``number``'s shard lies."""
    return directory / DONE_DIRECTORY / f"part-{number:05d}.json"


def write_sidecar(directory: Path, number: int, info: ShardInfo) -> None:
    """Say of a shard that is on the disk that it is done."""
    write_durably(sidecar_path(directory, number), (json.dumps(asdict(info), sort_keys=True) + "\n").encode())


def read_sidecar(directory: Path, number: int) -> ShardInfo | None:
    """Return what the sidecar of a shard says, or None if there is none that can be read."""
    try:
        return parse_sidecar(sidecar_path(directory, number).read_bytes())
    except OSError:
        return None


def parse_sidecar(data: bytes | None) -> ShardInfo | None:
    """Return what a sidecar's bytes say, or None if they say nothing."""
    try:
        fields = json.loads(data or b"")
        return ShardInfo(int(fields["rows"]), int(fields["bytes"]), str(fields["sha256"]))
    except (ValueError, KeyError, TypeError):
        return None


def is_done(directory: Path, number: int) -> bool:
    """Return whether a shard has a sidecar and is, byte for byte, what the sidecar says."""
    info = read_sidecar(directory, number)
    path = shard_path(directory, number)
    try:
        return info is not None and path.stat().st_size == info.bytes and file_sha256(path) == info.sha256
    except OSError:
        return False


def is_whole(run: Path, outputs: Iterable[str]) -> bool:
    """Return whether a published run's folders, and of each table every shard, are there in the size that they had.

    Parameters
    ----------
    run : Path
        The run.
    outputs : iterable of str
        What its manifest says lies in it.
    """
    for name in outputs:
        if not (run / name).exists():
            return False
        for sidecar in (run / name / DONE_DIRECTORY).glob("part-*.json"):
            info = read_sidecar(run / name, int(sidecar.stem.removeprefix("part-")))
            shard = run / name / f"{sidecar.stem}.parquet"
            if info is None or not shard.is_file() or shard.stat().st_size != info.bytes:
                return False
    return True
