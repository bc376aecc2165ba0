"""OUT, the folder that a run is published as: whether it may be, and what of other folders is a run's output."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stylematch.errors import UserError
from stylematch.tables.manifest import is_named_as_ours, made_by, read_manifest
from stylematch.tables.shown import is_url, is_utf8, shown, shown_url

HIDDEN = ".stylematch-"  # .OUT.stylematch-staging-RUN and its like


def hidden_prefix(out: Path) -> str:
    """Return what the names of all that stands hidden beside OUT begin with."""
    return f".{out.name}{HIDDEN}"


def check_out(out: Path) -> Path:
    """Return OUT's absolute path, links resolved, or say why no run can be published there. Changes nothing.

    Cheap, so that a command can call it before it reads its inputs.

    Raises
    ------
    UserError
        OUT is a URL, no UTF-8, a file, a link to nowhere, a mount point, the current directory or one above it, or
        holds what no run of ours wrote.
    """
    if is_url(out):
        raise UserError(
            f"--out {shown_url(out)} is a URL: a run goes into a folder of this machine; name one, or publish to a "
            'bucket with export (out = "s3://..." in jobs/nightly.toml)'
        )
    try:
        return _check_out(out)
    except OSError as error:
        raise UserError(f"--out {shown(out)} cannot be used: {error.strerror}: name another folder") from error


def _check_out(out: Path) -> Path:
    name = f"--out {shown(out)}"
    real = replaceable(out, name)
    try:
        entries = {entry.name for entry in os.scandir(real)}
    except FileNotFoundError:
        return real
    except NotADirectoryError:
        raise UserError(f"{name} is a file or lies under one: name a folder") from None
    if not entries:
        return real
    manifest = read_manifest(real)
    if manifest is None:
        raise UserError(f"{name} is not empty and holds no finished run of stylematch: name another folder")
    foreign = sorted(n for n in entries - set(manifest.get("outputs", entries)) if not n.startswith("."))
    if foreign:
        raise UserError(
            f"{name} holds {shown(foreign[0])} beside a finished run, which replacing the run would "
            "delete: move it away or name another folder"
        )
    return real


def replaceable(out: Path, name: str) -> Path:
    """Return an absolute path, links resolved, or say why no folder can ever take its place by a rename.

    Parameters
    ----------
    out : Path
        What is to appear, or to be replaced, as a whole.
    name : str
        What a sentence calls it.

    Raises
    ------
    UserError
        It is no UTF-8, a link to nowhere, a mount point, the current directory or one above it.
    """
    real = Path(os.path.realpath(out))
    if not is_utf8(real):
        raise UserError(f"{name} is no valid UTF-8, and Parquet files cannot be read there: name another folder")
    if out.is_symlink() and not real.exists():
        raise UserError(f"{name} is a link to nowhere: remove it or name another folder")
    if real == Path.cwd() or real in Path.cwd().parents:
        raise UserError(
            f"{name} is the current directory or one above it, which would be replaced: name one inside it, such as "
            "./stylematch-out"
        )
    if real.is_mount():
        raise UserError(f"{name} is a mount point, which cannot be replaced as a whole: name a folder in it")
    return real


def check_other_command(out: Path, command: str) -> None:
    """Refuse an OUT that holds what another command made: hours of scoring are not lost to a mistyped folder.

    Parameters
    ----------
    out : Path
        As for ``check_out``.
    command : str
        Whose runs may be replaced.

    Raises
    ------
    UserError
        As of ``check_out``, and where OUT holds another command's run.
    """
    there = read_manifest(check_out(out))
    if there is not None and made_by(there) != command:
        raise UserError(f"--out {shown(out)} holds a run that {command} did not write: name another folder")


def output_of(out: Path) -> Callable[[Path], bool]:
    """Return a test whether a real path is a run's output, whose pictures are no input of another run.

    That is OUT, whatever it holds, any other finished run, and any run's staging folder.
    """
    real = Path(os.path.realpath(out))

    def is_output(path: Path) -> bool:
        is_staging = path.name.startswith(".") and HIDDEN in path.name
        return path == real or is_staging or is_named_as_ours(path)

    return is_output
