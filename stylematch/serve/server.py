"""Listen: load everything, take the address, answer until told to stop, then finish what is in hand.

The address is taken first and models are loaded before the first request is read, so a mistake in either is one
sentence and no half-alive service; whoever connects meanwhile waits.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import python_multipart  # noqa: F401 - forms need it, and starlette would say so at the first form
import uvicorn

from stylematch.errors import UserError
from stylematch.pipelines.scorer import Scorer
from stylematch.serve.app import create_app
from stylematch.settings.score import ScoreSettings
from stylematch.settings.serve import ServeSettings


def serve(
    scoring: ScoreSettings,
    serving: ServeSettings,
    indexes: Sequence[Path] = (),
    *,
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; returns when all requests in hand are answered.

    Parameters
    ----------
    scoring : ScoreSettings
        How pictures are scored, and how large they may be.
    serving : ServeSettings
        Where the service listens, and what it takes on.
    indexes : sequence of pathlib.Path
        Index directories that replace parts of the default.
    on_ready : callable
        Told the service's address once it answers.

    Raises
    ------
    UserError
        If the address cannot be taken, or an index, rule set or run is wrong.
    """
    with contextlib.closing(_listen(serving.host, serving.port)) as listener:
        app = create_app(Scorer(scoring, indexes), serving)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=int(serving.upload_timeout_s + serving.timeout_s) + 1,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_no_advice)
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        server = _Server(config, lambda: on_ready(f"http://{host}:{listener.getsockname()[1]}/"))
        try:
            with contextlib.closing(app.state.service):
                server.run(sockets=[listener])
        except KeyboardInterrupt:
            # uvicorn has shut down in order and repeats the signal; to stop is what a service is told to do.
            if not server.should_exit:
                raise


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Say whether a line is none of uvicorn's advice on what answers a client's upgrade, which nothing here needs."""
    return "WebSocket library" not in record.getMessage()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"--host {host!r} --port {port} cannot be listened on: {why}; choose another") from error
