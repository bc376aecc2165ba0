"""Counters and histograms of the service, in the text format that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stylematch.serve.answers import Answer

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What one app counts.

    Parameters
    ----------
    taken : callable
        Returns how many requests are in hand.
    """

    def __init__(self, taken: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "stylematch_http_requests", "Requests", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "stylematch_http_request_seconds", "From request to answer", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.photos = Counter(
            "stylematch_photos", "Pictures by what became of them", ["status", "reason"], registry=self.registry
        )
        self.faces = Counter("stylematch_faces", "Faces found", registry=self.registry)
        self.batch_pictures = Histogram(
            "stylematch_batch_pictures", "Pictures scored in one go", buckets=_PICTURES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "stylematch_batch_seconds", "Time to score them", buckets=_SECONDS, registry=self.registry
        )
        in_hand = Gauge("stylematch_requests_in_hand", "Pictures uploading, waiting or scored", registry=self.registry)
        in_hand.set_function(taken)

    def batch_done(self, pictures: int, seconds: float) -> None:
        """Count one call of the models."""
        self.batch_pictures.observe(pictures)
        self.batch_seconds.observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count a picture that was read."""
        self.photos.labels(answer.photo.status, answer.photo.reason).inc()
        self.faces.inc(len(answer.faces))

    def text(self) -> bytes:
        """Return all of it."""
        return generate_latest(self.registry)


class Measured:
    """Counts and times every request of an app, by the route that matched: a path could be anything.

    Parameters
    ----------
    app : ASGI application
        What answers.
    metrics : Metrics
        Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", None) or "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.requests.labels(method, route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - started)
