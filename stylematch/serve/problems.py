"""Every refusal in the one form of ``Problem``: what the service raises, what a request got wrong, what broke."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stylematch.serve.answers import Problem, Refusal
from stylematch.serve.intake import RefusedError

_REFUSALS = {400: Refusal.MALFORMED_REQUEST, 404: Refusal.NOT_FOUND, 405: Refusal.METHOD_NOT_ALLOWED}

# By pydantic's type of a fault in a query, in this project's words.
_FAULTS = {
    "extra_forbidden": "is no parameter here; leave it out (/openapi.json lists those there are)",
    "missing": "is missing; give it",
    "bool_parsing": "has to be true or false",
}


def problem_responses(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI is told of a route's refusals, given as ``_404="what it means"``."""
    return {int(name[1:]): {"model": Problem, "description": meaning} for name, meaning in meanings.items()}


def add_handlers(app: FastAPI) -> None:
    """Let every refusal have the one form of ``Problem``."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RefusedError)
        return refusal(error.status, error.reason, error.message, error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return refusal(422, Refusal.MALFORMED_REQUEST, "; ".join(_faults(error.errors())))

    async def not_served(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        reason = _REFUSALS.get(error.status_code, Refusal.MALFORMED_REQUEST)
        return refusal(error.status_code, reason, str(error.detail), error.headers)

    async def broken(_: Request, __: Exception) -> JSONResponse:  # the server logs the trace
        return refusal(500, Refusal.INTERNAL_ERROR, "the service failed; its log says how")

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, not_served)
    app.add_exception_handler(Exception, broken)


def _faults(errors: Sequence[Any]) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in fault['loc'])}: {_FAULTS.get(fault['type'], fault['msg'])}"
        for fault in errors
    ]


def refusal(status: int, reason: Any, message: str, headers: Any = None) -> JSONResponse:
    """Return the answer in the form of ``Problem``."""
    content = Problem(reason=reason, message=message).model_dump(mode="json")
    return JSONResponse(content, status, headers=dict(headers) if headers else None)
