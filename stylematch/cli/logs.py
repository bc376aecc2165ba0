"""What goes to standard error: sentences for people, or one JSON object a line (``--log-format json``)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import typer

from stylematch.cli.arguments import LogFormat

_format: LogFormat = "text"


class _JsonFormatter(logging.Formatter):
    """A log line as one object: time, level, kind, logger, message; what was raised under ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        values = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "kind": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return json.dumps(values)


def log_to_stderr() -> None:
    """Send the package's own log lines to standard error, each with its time."""
    logger = logging.getLogger("stylematch")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    logger.propagate = False
    use_log_format("text")


def use_log_format(log_format: LogFormat) -> None:
    """Write all later lines of this process so: of logs, of progress, of errors."""
    from stylematch.engines.progress import write_json_lines

    global _format  # how this process speaks, decided once by its command line
    _format = log_format
    write_json_lines(log_format == "json")
    as_json = log_format == "json"
    formatter = _JsonFormatter() if as_json else logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
    for handler in logging.getLogger("stylematch").handlers:
        handler.setFormatter(formatter)
    # What other packages warn of becomes objects too.
    logging.captureWarnings(as_json)
    for name in ("py.warnings", "lightning"):
        logging.getLogger(name).handlers = [_handler(formatter)] if as_json else []
    logging.getLogger("uvicorn").handlers = [_handler(formatter)]  # which has none of its own here


def _handler(formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    return handler


def say(message: str, *, level: str = "error") -> None:
    """Tell the user one sentence on standard error."""
    if _format == "json":
        now = datetime.now(UTC).timestamp()
        typer.echo(json.dumps({"time": _utc(now), "level": level, "kind": "message", "message": message}), err=True)
    else:
        typer.echo(f"stylematch-batch: {message}", err=True)


def speaks_json() -> bool:
    """Return whether lines are JSON objects."""
    return _format == "json"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
