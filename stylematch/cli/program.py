"""The program: all commands together, and what becomes of their errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from stylematch import __version__
from stylematch.cli import catalog, data, embed, index, models, rules, score
from stylematch.errors import StylematchError

app = typer.Typer(
    help="Batch, offline style recommender: photos in, faces, styles and fashion items out, as Parquet and FAISS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (score, models, embed):
    app.add_typer(commands.app)
app.add_typer(rules.rules_app, name="rules")
app.add_typer(index.index_app, name="index")
app.add_typer(catalog.catalog_app, name="catalog")
app.add_typer(data.data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stylematch {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Parse what comes before the command."""


def log_to_stderr() -> None:
    """Send the package's own log lines to standard error, each with its time."""
    logger = logging.getLogger("stylematch")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> NoReturn:
    """Run the command line; every error that is understood becomes one sentence and its exit code."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop is a Ctrl-C, in every command
        log_to_stderr()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # it came before the command began
        code = _say_interrupted()
    for number in (signal.SIGINT, signal.SIGTERM):  # what is left is Python's own end, which one would only litter
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : list of str
        Without the program's name.
    """
    from stylematch.tables.contract import ExitCode
    from stylematch.tables.disk import shown

    try:
        result: Any = app(arguments, prog_name="stylematch-batch", standalone_mode=False)
        sys.stdout.flush()
    except StylematchError as error:
        for line in getattr(error, "lines", ()):  # a run that is done says so, over whatever limit
            typer.echo(line)
        typer.echo(f"stylematch-batch: {shown(str(error))}", err=True)  # names in it may hold line feeds
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        result = ExitCode.INTERRUPTED
    except SystemExit as error:
        # Typer leaves so when a pipe is closed, Lightning when a training is interrupted.
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_has_gone()
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        result = ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_has_gone()
    except OSError as error:  # a full disk, a folder that went away: the file system's fault, not a program's
        typer.echo(f"stylematch-batch: {shown(str(error))}; mend that and run the same command again", err=True)
        return ExitCode.FAILED_RESUMABLE
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:  # a fault of ours: all that is known of it, and a code that a scheduler may retry on
            traceback.print_exc()
            return ExitCode.FAILED_RESUMABLE
        show()  # a usage error, which knows the command's usage line
        return ExitCode.USER_ERROR
    if result == ExitCode.INTERRUPTED:
        return _say_interrupted()
    return result if isinstance(result, int) else ExitCode.DONE


def _say_interrupted() -> int:
    from stylematch.tables.contract import ExitCode

    typer.echo("stylematch-batch: interrupted; the same command goes on where it stopped", err=True)
    return ExitCode.INTERRUPTED


def _reader_has_gone() -> int:
    """Return success: whoever read our output (head, say) has seen enough. What is still buffered goes nowhere."""
    from stylematch.tables.contract import ExitCode

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return ExitCode.DONE
