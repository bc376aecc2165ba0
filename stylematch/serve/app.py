"""The routes: a picture to ``/score``, items' pictures, a run's gallery, health, metrics, and a page for people."""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Scope

from stylematch import __version__
from stylematch.errors import UserError
from stylematch.pipelines.scorer import Scorer
from stylematch.report.join import attribute_names
from stylematch.report.pictures import encode_item_picture
from stylematch.serve.answers import ITEM_PICTURE, Answer, Health, Info, Refusal
from stylematch.serve.asked import PictureQuery, ScoreQuery
from stylematch.serve.headers import SecureHeaders
from stylematch.serve.hosts import AllowedHosts
from stylematch.serve.intake import FIELD, FORM, RAW, RefusedError
from stylematch.serve.metrics import Measured
from stylematch.serve.problems import add_handlers, problem_responses
from stylematch.serve.service import Service
from stylematch.settings.serve import ServeSettings
from stylematch.tables.shown import shown

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
    add_handlers(app)
    _add_score(app, service)
    _add_items(app, scorer)
    _add_health(app, service, scorer, has_gallery=gallery is not None)
    _add_pages(app, gallery)
    app.add_middleware(AllowedHosts, allowed_hosts=settings.hosts())
    app.add_middleware(SecureHeaders)
    app.add_middleware(Measured, metrics=service.metrics)
    return app


def _add_score(app: FastAPI, service: Service) -> None:
    @app.post(
        "/score",
        summary="Score a picture",
        openapi_extra=_PICTURE_BODY,
        responses=problem_responses(
            _400="The request cannot be read.",
            _408="The picture did not arrive in time.",
            _413="The picture has too many bytes or pixels.",
            _415="That is no picture of a format that is read here.",
            _422="The picture is empty, damaged or cut off, or a parameter is wrong or unknown.",
            _503="Too many pictures are in hand; Retry-After says when to come again.",
            _504="The picture was not scored in time.",
        ),
    )
    async def score(
        request: Request,
        asked: Annotated[ScoreQuery, Query()],
    ) -> Answer:
        answer = await service.score(request)
        if not asked.embedding:
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
            **problem_responses(
                _404="There is no such item, or no picture of it.", _422="A parameter is missing or unknown."
            ),
        },
    )
    def item_picture(asked: Annotated[PictureQuery, Query()]) -> Response:
        if (data := encoded(asked.item_id)) is None:
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

    for path, answer in (("/health/live", live), ("/health/ready", ready)):  # probes ask with HEAD, too
        app.head(path, include_in_schema=False)(answer)

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
