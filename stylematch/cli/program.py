"""The program: all commands together, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from stylematch import __version__
from stylematch.cli import catalog, compare, data, doctor, embed, export, index, models, rules, score, serve, similar
from stylematch.cli.arguments import LogFormat, command_of, format_first, unwritten_home
from stylematch.cli.interrupts import follows_an_interrupt, hear_interrupts, ignore_interrupts, interrupt_heard
from stylematch.cli.logs import log_to_stderr, say, speaks_json, use_log_format
from stylematch.cli.streams import to_nowhere, whether_heard_or_not, write_any_letter
from stylematch.data.memory import collected_at_the_end
from stylematch.errors import StylematchError, UserError
from stylematch.tables.arrow import claim_process

app = typer.Typer(
    help="Batch, offline style recommender: photos in, faces, styles and fashion items out, as Parquet and FAISS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (score, export, compare, models, embed, similar, serve, doctor):
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
    version: Annotated[  # noqa: ARG001  # its callback has answered
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines on standard error: for people, or one JSON object each.")
    ] = "text",
) -> None:
    """Parse what comes before the command."""
    use_log_format(log_format)


def main() -> NoReturn:
    """Run the command line; every error that is understood becomes one sentence and its exit code."""
    try:
        hear_interrupts()
        log_to_stderr()
        write_any_letter()
        claim_process()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # it came before the command began
        code = _say_interrupted(sys.argv[1:])
    ignore_interrupts()
    collected_at_the_end()
    from stylematch.tables.contract import ExitCode

    if code == ExitCode.INTERRUPTED:
        # An interrupt that fell into text that was being run (a dataclass is made so) makes Python end itself by SIGINT
        # after all is done (pythonrun.c, unhandled_keyboard_interrupt), which a scheduler does not see as 130.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : list of str
        Without the program's name.
    """
    from stylematch.tables.contract import ExitCode
    from stylematch.tables.shown import shown

    try:
        if (word := unwritten_home(arguments)) is not None:
            raise UserError(f"'{word}': no shell wrote out its ~: write the whole path (of a folder called ~: ./~).")
        result: Any = app(format_first(arguments), prog_name="stylematch-batch", standalone_mode=False)
        sys.stdout.flush()
    except StylematchError as error:
        with whether_heard_or_not(sys.stdout):
            for line in getattr(error, "lines", ()):  # a run that is done says so, over whatever limit
                typer.echo(line)
            sys.stdout.flush()
        with whether_heard_or_not(sys.stderr):
            say(shown(str(error)))  # names in it may hold line feeds
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _say_interrupted(arguments)
    except SystemExit as error:
        # Typer leaves so when a pipe is closed, Lightning when a training is interrupted.
        if isinstance(error.__context__, BrokenPipeError):
            return _reader_has_gone()
        if not follows_an_interrupt(error):
            raise
        return _say_interrupted(arguments)
    except BrokenPipeError:
        return _reader_has_gone()
    except PermissionError as error:  # trying again would not change it
        with whether_heard_or_not(sys.stderr):
            say(
                f"{shown(error.filename or str(error))}: {error.strerror or 'denied'}: check the path and its "
                "permissions"
            )
        return ExitCode.USER_ERROR
    except OSError as error:  # a full disk, a folder that went away: the file system's fault, not a program's
        from stylematch.engines.current_folder import current_folder

        try:
            current_folder()
        except UserError as gone:  # the error names nothing then
            with whether_heard_or_not(sys.stderr):
                say(str(gone))
            return gone.exit_code
        with whether_heard_or_not(sys.stderr):
            say(f"{shown(str(error))}; mend that and run the same command again")
        return ExitCode.FAILED_RESUMABLE
    except Exception as error:
        if follows_an_interrupt(error):
            return _say_interrupted(arguments)
        if _is_shortage(error):
            with whether_heard_or_not(sys.stderr):
                say(
                    f"the system gave no more memory or threads ({shown(str(error)) or 'out of memory'}): free some or "
                    "raise the limit, and run the same command again"
                )
            return ExitCode.FAILED_RESUMABLE
        show = getattr(error, "show", None)
        with whether_heard_or_not(sys.stderr):
            if show is None and speaks_json():
                say(traceback.format_exc())
            elif show is None:
                traceback.print_exc()
            elif speaks_json():
                say(shown(getattr(error, "format_message", error.__str__)()))
            else:
                show()  # a usage error, which knows the command's usage line
        # Else a fault of ours: all that is known of it, and a code that a scheduler may retry on.
        return ExitCode.FAILED_RESUMABLE if show is None else ExitCode.USER_ERROR
    if result == ExitCode.INTERRUPTED:
        return _say_interrupted(arguments)
    return result if isinstance(result, int) else ExitCode.DONE


def _is_shortage(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)


def _say_interrupted(arguments: list[str]) -> int:
    interrupt_heard()
    from stylematch.tables.contract import GOING_ON, ExitCode

    how = "goes on where it stopped" if command_of(arguments) in GOING_ON else "begins again"
    with whether_heard_or_not(sys.stderr):
        say(f"interrupted; the same command {how}", level="warning")
    return ExitCode.INTERRUPTED


def _reader_has_gone() -> int:
    """Return success: whoever read our output (head, say) has seen enough. What is still buffered goes nowhere."""
    from stylematch.tables.contract import ExitCode

    to_nowhere(sys.stdout)
    return ExitCode.DONE
