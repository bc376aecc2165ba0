"""By which names requests may address the service: a page of another site has none of them (DNS rebinding)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stylematch.serve.answers import Refusal
from stylematch.serve.problems import refusal
from stylematch.tables.shown import shown

_PORT = re.compile(r":\d*$")


class AllowedHosts:
    """Refuses requests that name another host, in the form of every refusal.

    Parameters
    ----------
    app : ASGI application
        What answers the others.
    allowed_hosts : sequence of str
        Names without a port; ``*`` is any, ``*.example.com`` any below that one.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self.app = app
        self._names = [name.lower().strip("[]") for name in allowed_hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self.app
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            if not self._is_allowed(_PORT.sub("", host.lower()).strip("[]")):
                message = (
                    f"the service may not be addressed as '{shown(host)}'; it is started with --allowed-host for that"
                )
                answer = refusal(400, Refusal.MALFORMED_REQUEST, message)
        await answer(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        return any(host == name or (name.startswith("*") and host.endswith(name[1:])) for name in self._names)
