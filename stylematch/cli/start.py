"""The program's first steps: what scores photos has its workers' imports begun before any command is known.

Commands and their options take a tenth of a second to be made, which these imports need not wait for.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from stylematch.cli.arguments import command_of
from stylematch.cli.interrupts import note_interrupts
from stylematch.cli.streams import open_closed_streams
from stylematch.engines import early
from stylematch.errors import StylematchError
from stylematch.pipelines import SCORING


def main() -> NoReturn:
    """Run the command line."""
    # Before anybody imports pyarrow, and for the workers, too. Its own allocator keeps much of what it once needed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # It would look through all that is installed for plugins, in this process and in those that it starts.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    open_closed_streams()
    note_interrupts()
    if _scores(sys.argv[1:]):
        with contextlib.suppress(OSError, StylematchError):  # the command tries again, and says what is wrong
            early.begin(SCORING)
    try:
        from stylematch.cli.program import main as program

        program()
    finally:
        early.end_waiting()


def _scores(arguments: Sequence[str]) -> bool:
    """Say whether it looks so; where it turns out otherwise, what was begun is ended."""
    return command_of(arguments) == "score" and "--help" not in arguments
