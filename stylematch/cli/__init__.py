"""``stylematch-batch``: parse, call one pipeline, print.

No logic lives here, and nothing heavy is imported at start.
"""

from stylematch.cli.start import main

__all__ = ["main"]
