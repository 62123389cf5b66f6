"""What every request must meet: a known host name, and a token for every call."""

from __future__ import annotations

import logging
import re
import secrets
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from viscera.serve.settings import ServerSettings

TOKEN_HEADER = "X-Viscera-Token"
# NiiVue sets styles of its canvas by script, which 'self' allows; its worker comes as a blob.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PORT = re.compile(r":\d*$")
_OPEN = "/api/health"  # tells nothing but that a server lives
_LOG = logging.getLogger("viscera.serve")


class Guard:
    """Wraps the application.

    - The Host header must be a name of this server, so that no rebound DNS reaches it.
    - Every call must bring the token in a header, which no other site's page can set, and which no
      other user of this machine knows.
    - Every answer carries the headers that keep a browser from asking anybody else; an error of
      ours is an answer too.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        app = self._app if refusal is None else refusal

        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await app(scope, receive, send_with_headers)
        except Exception as error:
            log_bug("a request", error)
            if not has_begun:
                answer = _error(500, "an error in viscera")
                await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        name = _PORT.sub("", headers.get("host", "").lower())
        names = self._settings.host_names
        # An address that means every interface is called by any name; its token guards it.
        if self._settings.host not in ("0.0.0.0", "::") and name not in names:
            return _error(421, "this server does not go by that name")
        path = scope["path"]
        if path.startswith("/api/") and path != _OPEN:
            token = headers.get(TOKEN_HEADER, "")
            token = token or headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not secrets.compare_digest(token.encode(), self._settings.token.encode()):
                return _error(401, f"the header {TOKEN_HEADER} is missing or wrong")
        if "\0" in path:  # no file has such a name, and asking for one is an error
            return _error(404, "not found")
        return None


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status)


def log_bug(what: str, error: BaseException) -> None:
    """Say where an error of ours occurred; never its text, which may name a patient.

    Args:
        what: was going on.
        error: the error.
    """
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = ", ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    _LOG.error("%s failed: %s at %s", what, type(error).__name__, places)
