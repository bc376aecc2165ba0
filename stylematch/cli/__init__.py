"""``stylematch-batch``: parse, call one pipeline, print.

No logic lives here, and nothing heavy is imported at start.
"""

from stylematch.cli.program import app, main, run

__all__ = ["app", "main", "run"]
