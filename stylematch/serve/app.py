"""The routes: a picture to ``/score``, items' pictures, a run's gallery, health, metrics, and a page for people."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import Scope

from stylematch import __version__
from stylematch.errors import UserError
from stylematch.pipelines.scorer import Scorer, Tables
from stylematch.report.join import attribute_names
from stylematch.report.pictures import encode_item_picture
from stylematch.serve.answers import ITEM_PICTURE, Answer, Health, Info, Problem, Refusal, answer_of
from stylematch.serve.batching import Batcher, Room, RoomFullError
from stylematch.serve.headers import SecureHeaders
from stylematch.serve.intake import FIELD, FORM, RAW, Incoming, RefusedError, read_picture
from stylematch.serve.metrics import Measured, Metrics
from stylematch.settings import ServeSettings
from stylematch.tables.contract import Reason, Status
from stylematch.tables.disk import shown

_STATUS_OF_REASON = {
    Reason.TOO_LARGE: 413,
    Reason.FILE_TOO_LARGE: 413,
    Reason.NOT_A_PICTURE: 415,
    Reason.UNSUPPORTED_FORMAT: 415,
}  # the others are 422
_REFUSALS = {400: Refusal.MALFORMED_REQUEST, 404: Refusal.NOT_FOUND, 405: Refusal.METHOD_NOT_ALLOWED}
_RETRY_AFTER_S = 1
_KEPT_ITEM_PICTURES = 2048

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The picture: as the body, or as a file of a form.",
        "content": {
            **dict.fromkeys(RAW, _BINARY),
            FORM: {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


def _problems(**meanings: str) -> dict[int | str, dict[str, Any]]:
    return {int(name[1:]): {"model": Problem, "description": meaning} for name, meaning in meanings.items()}


def create_app(scorer: Scorer, settings: ServeSettings) -> FastAPI:
    """Return the service; ``app.state.service.close()`` ends its worker.

    Parameters
    ----------
    scorer : Scorer
        Models, indexes and rules, loaded; its ``settings`` hold the limits on pictures.
    settings : ServeSettings
        What the service takes on.

    Raises
    ------
    UserError
        If the run that was named has no gallery, or one that shows what the service has switched off.
    """
    gallery = None if settings.run is None else _gallery_of(settings.run, scorer.adviser.without)
    service = Service(scorer, settings)

    # FastAPI's own pages of documentation load scripts from elsewhere, so there is only the description.
    app = FastAPI(
        title="stylematch",
        version=__version__,
        summary="A picture in; faces, attributes, styles and items out.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    _add_handlers(app)
    _add_score(app, service)
    _add_items(app, scorer)
    _add_health(app, service, scorer, has_gallery=gallery is not None)
    _add_pages(app, gallery)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=settings.hosts(), www_redirect=False)
    app.add_middleware(SecureHeaders)
    app.add_middleware(Measured, metrics=service.metrics)
    return app


class Service:
    """What the routes share: the room, the batcher and the metrics."""

    def __init__(self, scorer: Scorer, settings: ServeSettings) -> None:
        self.settings = settings
        self.max_bytes = int(scorer.settings.max_file_mb * 1e6)
        self.attribute_names = scorer.adviser.attribute_names
        self.room = Room(settings.max_waiting)
        self.metrics = Metrics(lambda: self.room.taken)
        self.batcher: Batcher[Tables] = Batcher(
            scorer.score_pictures,
            batch_pictures=settings.batch_pictures,
            batch_wait_ms=settings.batch_wait_ms,
            on_batch=self.metrics.batch_done,
        )

    def close(self) -> None:
        """Score what waits, then end the worker."""
        self.batcher.close()

    async def score(self, request: Request) -> Answer:
        """Answer a request with a picture.

        Raises
        ------
        RefusedError
            If there is no answer.
        """
        incoming = Incoming(request, self.max_bytes)
        try:
            with self.room.place():
                picture = await read_picture(incoming, timeout_s=self.settings.upload_timeout_s)
                async with asyncio.timeout(self.settings.timeout_s):
                    tables = await self.batcher.ask(picture)
        except RoomFullError as error:
            await incoming.drain()
            message = f"{self.room.places} pictures are in hand already; send this one again a little later"
            raise RefusedError(503, Refusal.BUSY, message, {"Retry-After": str(_RETRY_AFTER_S)}) from error
        except TimeoutError as error:
            message = f"the picture was not scored in {self.settings.timeout_s:g} s"
            raise RefusedError(504, Refusal.TIMED_OUT, message) from error
        except RefusedError:
            await incoming.drain()
            raise
        return self._answer(tables)

    def _answer(self, tables: dict[str, pa.Table]) -> Answer:
        photo = tables["photos"].to_pylist()[0]
        if photo["status"] == Status.REJECTED:
            self.metrics.photos.labels(photo["status"], photo["reason"]).inc()
            reason = Reason(photo["reason"])
            raise RefusedError(_STATUS_OF_REASON.get(reason, 422), reason, shown(photo["message"] or reason))
        answer = answer_of(tables, self.attribute_names)
        self.metrics.answered(answer)
        return answer


def _add_score(app: FastAPI, service: Service) -> None:
    @app.post(
        "/score",
        summary="Score a picture",
        openapi_extra=_PICTURE_BODY,
        responses=_problems(
            _400="The request cannot be read.",
            _408="The picture did not arrive in time.",
            _413="The picture has too many bytes or pixels.",
            _415="That is no picture of a format that is read here.",
            _422="The picture is empty, damaged or cut off, or a parameter is wrong.",
            _503="Too many pictures are in hand; Retry-After says when to come again.",
            _504="The picture was not scored in time.",
        ),
    )
    async def score(
        request: Request,
        embedding: Annotated[bool, Query(description="also return the faces' embeddings")] = False,
    ) -> Answer:
        answer = await service.score(request)
        if not embedding:
            for face in answer.faces:
                face.embedding = None
        return answer


def _add_items(app: FastAPI, scorer: Scorer) -> None:
    picture_of, lock = scorer.item_picture, threading.Lock()

    @lru_cache(maxsize=_KEPT_ITEM_PICTURES)
    def encoded(item_id: str) -> bytes | None:
        with lock:  # one file is read by all
            pixels = picture_of(item_id)
        return None if pixels is None else encode_item_picture(pixels)

    @app.get(
        f"/{ITEM_PICTURE}",
        summary="An item's picture",
        response_class=Response,
        responses={
            200: {"content": {"image/png": _BINARY}, "description": "A small picture."},
            **_problems(_404="There is no such item, or no picture of it.", _422="A parameter is missing."),
        },
    )
    def item_picture(item_id: Annotated[str, Query(description="as in an answer's items")]) -> Response:
        if (data := encoded(item_id)) is None:
            raise RefusedError(404, Refusal.NOT_FOUND, "there is no such item, or no picture of it")
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def _add_health(app: FastAPI, service: Service, scorer: Scorer, *, has_gallery: bool) -> None:
    @app.get("/health/live", summary="Whether the service lives")
    async def live() -> Health:
        return Health(status="alive")

    @app.get(
        "/health/ready",
        summary="Whether the service takes pictures",
        responses={503: {"model": Health, "description": "It is closing, or its worker has died."}},
    )
    async def ready(response: Response) -> Health:
        if service.batcher.is_open:
            return Health(status="ready")
        response.status_code = 503
        return Health(status="closing")

    @app.get("/info", summary="What the service is made of and takes")
    async def info() -> Info:
        rules = scorer.adviser.judge.rules
        return Info(
            version=__version__,
            rules=rules.name,
            styles=list(rules.styles),
            attributes=list(service.attribute_names),
            max_file_bytes=service.max_bytes,
            max_megapixels=scorer.settings.max_megapixels,
            gallery=has_gallery,
        )

    @app.get(
        "/metrics",
        summary="Counters and histograms, for Prometheus",
        response_class=PlainTextResponse,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_pages(app: FastAPI, gallery: Path | None) -> None:
    page = Path(str(files("stylematch.serve") / "page"))

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(page / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})

    app.mount("/page", _Revalidated(directory=page), name="page")
    if gallery is not None:
        app.mount("/gallery", _Revalidated(directory=gallery, html=True), name="gallery")


class _Revalidated(StaticFiles):
    """Files of one folder; links do not lead out of it. A browser asks each time whether its copy still holds."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers["cache-control"] = "no-cache"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except (OSError, ValueError) as error:  # a name that no file system takes, such as one with a NUL
            raise HTTPException(404) from error


def _gallery_of(run: Path, without: Collection[str]) -> Path:
    report = run / "report"
    if not (report / "index.html").is_file():
        raise UserError(
            f"--run {shown(run)} has no gallery (report/index.html); name a run that was scored with --report"
        )
    if without and (shows := sorted({*attribute_names(run)} & {*without})):
        raise UserError(
            f"--run {shown(run)}: its gallery shows {', '.join(shows)}, which --without switches off; "
            "score it with the same --without"
        )
    return report


def _add_handlers(app: FastAPI) -> None:
    """Let every refusal have the one form of ``Problem``."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RefusedError)
        return _problem(error.status, error.reason, error.message, error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _problem(422, Refusal.MALFORMED_REQUEST, "; ".join(_faults(error.errors())))

    async def not_served(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        reason = _REFUSALS.get(error.status_code, Refusal.MALFORMED_REQUEST)
        return _problem(error.status_code, reason, str(error.detail), error.headers)

    async def broken(_: Request, __: Exception) -> JSONResponse:  # the server logs the trace
        return _problem(500, Refusal.INTERNAL_ERROR, "the service failed; its log says how")

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, not_served)
    app.add_exception_handler(Exception, broken)


def _faults(errors: Sequence[Any]) -> list[str]:
    return [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in errors]


def _problem(status: int, reason: Any, message: str, headers: Any = None) -> JSONResponse:
    content = Problem(reason=reason, message=message).model_dump(mode="json")
    return JSONResponse(content, status, headers=dict(headers) if headers else None)
