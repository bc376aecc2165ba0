"""What every benchmark says of itself: the command that repeats it, the machine, and results as JSON and Markdown."""

from __future__ import annotations

import compileall
import functools
import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stylematch.tables.environment import code_version, describe_host, package_versions, processor_of

RESULTS = Path(__file__).parent / "results"


def shared_data() -> Path:
    """Return the folder of real data (``$STYLEMATCH_DATA`` or ``../shared/data``)."""
    return Path(os.environ.get("STYLEMATCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def facts() -> dict[str, Any]:
    """Return the command, the code and the machine (not its name), and how busy that is."""
    # Where this machine keeps its folders is nobody's business: of an absolute path, the end tells enough.
    told = [str(Path("...", *Path(text).parts[-2:])) if Path(text).is_absolute() else text for text in sys.argv[1:]]
    host = {name: value for name, value in describe_host().items() if name != "name"}
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *told]),
        "code": code_version(),
        "host": host,
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "packages": package_versions(),
    }


@functools.cache
def _compiled() -> None:
    """Compile stylematch's modules, as pip does: some environments keep no bytecode, and every start would compile."""
    compileall.compile_dir(str(Path(importlib.import_module("stylematch").__file__ or "").parent), quiet=2)


def program(*arguments: object) -> list[str]:
    """Return the command that runs the program with some arguments; its modules are compiled."""
    _compiled()
    return [sys.executable, "-m", "stylematch.cli", *map(str, arguments)]


def stylematch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own; its error message is shown where it fails."""
    command = program(*arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done


def linked_pictures(pictures: Sequence[Path], folder: Path) -> Path:
    """Fill a folder with hard links to (or, on another disk, copies of) pictures and return it."""
    folder.mkdir(parents=True)
    for picture in pictures:
        try:
            os.link(picture.resolve(), folder / picture.name)
        except OSError:
            (folder / picture.name).write_bytes(picture.read_bytes())
    return folder


def pictures_in(folder: Path) -> list[Path]:
    """Return the JPEGs and PNGs that lie in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def copy_photos(originals: list[Path], count: int, folder: Path) -> Path:
    """Write ``count`` photos, each with its number behind its last byte, 1,000 a folder."""
    for number in range(count):
        original = originals[number % len(originals)]
        target = folder / f"{number // 1000:03d}" / f"{number:06d}{original.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(original.read_bytes() + f"\n{number}".encode())
    return folder


def report(figures: dict[str, Any], table: Sequence[Sequence[object]], out: Path) -> None:
    """Write ``out`` (JSON) and its Markdown, and print the Markdown.

    Parameters
    ----------
    figures : dict
        All that was measured.
    table : sequence of rows
        What the Markdown shows, its first row the heading.
    out : pathlib.Path
        The JSON file.
    """
    known = facts()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**known, **figures}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    host = known["host"]
    heading, *rows = table
    lines = [
        f"# {out.stem}",
        "",
        f"`{known['command']}`",
        "",
        f"{host['cores']} cores of {processor_of(host)}; load at the end: {known['load_average_1_min']}.",
        "",
        "| " + " | ".join(map(str, heading)) + " |",
        "|" + " --- |" * len(heading),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        "",
    ]
    out.with_suffix(".md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
