"""A picture out of a request: as its body, or as the file ``picture`` of a form; neither too large nor too slow.

Bytes are counted as they come, so a length that was left out or lies helps nobody. Whoever is refused has the rest of
what he sends thrown away, up to a bound, since many clients read no answer before they have sent all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from stylematch.serve.answers import Refusal
from stylematch.tables.contract import Reason

FIELD = "picture"
FORM = "multipart/form-data"
RAW = ("image/*", "application/octet-stream")
_FORM_BYTES = 64 * 1024  # boundaries and headers around the file
_DRAIN_BYTES, _DRAIN_S = 256 * 1024 * 1024, 5.0


class RefusedError(Exception):
    """A request that gets no answer but a ``Problem``.

    Parameters
    ----------
    status : int
        Of HTTP.
    reason : Reason or Refusal
        The code.
    message : str
        One sentence for a person.
    headers : mapping, optional
        Of the response.
    """

    def __init__(
        self, status: int, reason: Reason | Refusal, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.headers = status, reason, message, headers


class Incoming:
    """The body of a request as it comes: its bytes counted, its end noticed.

    Parameters
    ----------
    request : Request
        Not read from yet.
    max_bytes : int
        The largest picture.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        self.headers, self.max_bytes = request.headers, max_bytes
        self.kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.limit = max_bytes + _FORM_BYTES if self.kind == FORM else max_bytes
        self.counted = Request(request.scope, self._receive)
        self._source, self._seen, self._ended = request.receive, 0, False

    async def _receive(self) -> Message:
        message = await self._next()
        if self._seen > self.limit:
            raise self.too_large()
        return message

    async def _next(self) -> Message:
        message = await self._source()
        self._seen += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    def too_large(self) -> RefusedError:
        """Return the refusal of a picture with too many bytes."""
        message = f"the picture is larger than the limit of {self.max_bytes:,} bytes"
        return RefusedError(413, Reason.FILE_TOO_LARGE, message)

    async def drain(self) -> None:
        """Throw away what still comes, unless the client waits for leave to send it."""
        if "expect" in self.headers:
            return
        bound = self._seen + _DRAIN_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while not self._ended and self._seen < bound:
                    await self._next()


async def read_picture(incoming: Incoming, *, timeout_s: float) -> bytes:
    """Return the picture of a request.

    Parameters
    ----------
    incoming : Incoming
        The request.
    timeout_s : float
        How long the picture may take to arrive.

    Raises
    ------
    RefusedError
        With 400, 408, 413, 415 or 422.
    """
    if not (incoming.kind in (FORM, RAW[1]) or incoming.kind.startswith("image/")):
        raise RefusedError(
            415,
            Refusal.UNSUPPORTED_MEDIA_TYPE,
            f"send the picture as the body, with Content-Type {' or '.join(RAW)}, or as the file '{FIELD}' of a {FORM}",
        )
    announced = incoming.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > incoming.limit:  # a length of more digits is too large as well
        raise incoming.too_large()
    try:
        async with asyncio.timeout(timeout_s):
            data = await (_from_form(incoming) if incoming.kind == FORM else incoming.counted.body())
    except TimeoutError as error:
        raise RefusedError(408, Refusal.UPLOAD_TIMED_OUT, f"the picture did not arrive in {timeout_s:g} s") from error
    except ClientDisconnect as error:
        raise RefusedError(400, Refusal.MALFORMED_REQUEST, "the connection ended before the picture did") from error
    if not data:
        raise RefusedError(422, Reason.EMPTY_FILE, "the picture has no bytes")
    return data


async def _from_form(incoming: Incoming) -> bytes:
    try:
        async with incoming.counted.form(max_files=1, max_fields=16) as form:
            file = form.get(FIELD)
            if not isinstance(file, UploadFile):
                raise RefusedError(422, Refusal.MALFORMED_REQUEST, f"the form has no file named '{FIELD}'")
            data = await file.read()
    except (HTTPException, FormParserError) as error:  # which of them depends on Starlette's release
        why = error.detail if isinstance(error, HTTPException) else error
        raise RefusedError(400, Refusal.MALFORMED_REQUEST, f"the form cannot be read: {why}") from error
    if len(data) > incoming.max_bytes:
        raise incoming.too_large()
    return data
