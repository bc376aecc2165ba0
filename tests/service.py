"""A service to ask: in this process without a network, or in one of its own as a user starts it."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from program import EXAMPLES, PATIENCE_S, command, environment

from stylematch.pipelines.scorer import Scorer
from stylematch.serve.app import create_app
from stylematch.settings.score import ScoreSettings
from stylematch.settings.serve import ServeSettings

JPEG = {"Content-Type": "image/jpeg"}


def load_scorer(**limits) -> Scorer:
    return Scorer(ScoreSettings(device="cpu", max_file_mb=1.0, max_megapixels=5.0, **limits), threads=1)


class Service:
    """An app in this process, asked by one coroutine or by several at once."""

    def __init__(self, scorer: Scorer, **settings) -> None:
        self.app = create_app(scorer, ServeSettings(**settings))

    async def _ask(self, requests: list[dict]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.request(**request) for request in requests))

    def ask_all(self, *requests: dict) -> list[httpx.Response]:
        return asyncio.run(self._ask(list(requests)))

    def ask(self, method: str, url: str, **more) -> httpx.Response:
        return self.ask_all({"method": method, "url": url, **more})[0]


@contextmanager
def serving(scorer: Scorer, **settings) -> Iterator[Service]:
    service = Service(scorer, **settings)
    try:
        yield service
    finally:
        service.app.state.service.close()


@contextmanager
def started(folder: Path, *options) -> Iterator[tuple[str, subprocess.Popen]]:
    """Start the program on a free port; give its address and process, and end it by SIGTERM if it still runs."""
    with (folder / "serve.err").open("wb") as errors:
        process = subprocess.Popen(
            command("serve", "--port", 0, "--device", "cpu", *options),
            stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(OMP_NUM_THREADS=1), cwd=folder,
        )  # fmt: skip
        try:
            line = process.stdout.readline()
            assert line.startswith("serving on http://127.0.0.1:"), (folder / "serve.err").read_text()
            yield line.split()[-1].rstrip("/"), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
            process.stdout.close()


def example(name: str) -> bytes:
    return (EXAMPLES / name).read_bytes()


def metric(text: str, name: str) -> float:
    """The value of a metric, its labels included in the name."""
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))
