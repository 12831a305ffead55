"""What every answer says to the browser, and which requests are looked at at all.

An ASGI layer around the application: requests under another name than the broker's (DNS
rebinding) are refused, also WebSockets and POSTs of another origin than this very page.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=(), serial=()",
    "X-Frame-Options": "DENY",
}
# No script but our own files, and no way from text to markup even by mistake (Trusted Types).
# Safari before 15.4 does not count wss: as 'self', hence the second source.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self' wss://{host}; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


class Guards:
    """The layer; `names` and `port` are under which the page may be asked for."""

    def __init__(self, app: ASGIApp, names: Iterable[str], port: int) -> None:
        self._app = app
        hosts = [f"[{name}]" if ":" in name else name.lower() for name in names]
        self._hosts = {f"{host}:{port}" for host in hosts}
        if port == 443:
            self._hosts |= set(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on and add our headers to the answer."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()

        async def guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                answer = MutableHeaders(scope=message)
                answer.update(_HEADERS)
                answer["Content-Security-Policy"] = _POLICY.format(host=host)
                answer.setdefault("Cache-Control", "no-cache")
            await send(message)

        if host not in self._hosts:
            host = "nowhere.invalid"
            refusal = PlainTextResponse("This page is not served under that name.\n", 421)
            await refusal(scope, receive, guarded)
        elif self._changes(scope) and headers.get("origin") != f"https://{host}":
            refusal = PlainTextResponse("This was not asked for by the page itself.\n", 403)
            await refusal(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _changes(self, scope: Scope) -> bool:
        return scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
