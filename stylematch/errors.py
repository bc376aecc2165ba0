"""The errors that stylematch raises on purpose: what happened, where, and what to do.

Every command turns a ``StylematchError`` into one sentence on standard error and the error's exit code; nothing else
about an error is decided anywhere else. The codes are those of ``stylematch.tables.contract.ExitCode``.
"""

from __future__ import annotations

from collections.abc import Sequence


class StylematchError(Exception):
    """A failure that is understood and described; the run can be repeated and goes on (exit code 3)."""

    exit_code = 3


class UserError(StylematchError):
    """The user asked for something that cannot be done: a wrong path, key, name or value (exit code 2)."""

    exit_code = 2


class MissingExtraError(UserError):
    """A command needs an optional dependency that is not installed.

    Parameters
    ----------
    what : str
        What was asked for, as the user would say it ("training a model").
    extra : str
        The extra of this package that brings it ("train").
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the '{extra}' extra: pip install 'stylematch[{extra}]'")
        self.extra = extra


class LimitExceededError(StylematchError):
    """The run is done and published, but over a limit that was asked for (exit code 4).

    Parameters
    ----------
    message : str
        Which limit.
    lines : sequence of str
        What a person is told of the run all the same.
    warnings : sequence of str
        What else somebody should look at.
    profile : sequence of str
        The run's table of stages, for whoever asks for it.
    """

    exit_code = 4

    def __init__(
        self, message: str, lines: Sequence[str] = (), warnings: Sequence[str] = (), profile: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.lines, self.warnings, self.profile = tuple(lines), tuple(warnings), tuple(profile)


class PhotoRejectedError(StylematchError):
    """One photo cannot be scored; it becomes a row in ``photos`` with this reason, never an abort.

    Parameters
    ----------
    reason : str
        A value of ``stylematch.tables.contract.Reason``.
    message : str
        One sentence for a person.
    width, height : int, optional
        The size in pixels that the header claims, where it could be read.
    image_format : str, optional
        The format's name, where it was recognised.
    advice : str
        What whoever scores photos may do about it; other commands may not have that option.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        width: int | None = None,
        height: int | None = None,
        image_format: str | None = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.width = width
        self.height = height
        self.image_format = image_format
        self.advice = advice

    @property
    def sentence(self) -> str:
        """The message with the advice."""
        return f"{self.message}: {self.advice}" if self.advice else self.message
