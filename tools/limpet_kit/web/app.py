"""The web page as an ASGI application: files, log-in, what a person may see, and the bridge.

The browser holds one cookie. Before the log-in it stands for nobody, afterwards for a session;
every POST has to show the token that belongs to it, which only this page can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from .. import presence
from ..broker import server
from ..broker.settings import Settings
from ..errors import KitError
from ..guard import alerts
from ..secret import Secret
from . import bridge
from .door import Door, TooOften
from .guards import Guards
from .people import People, Person
from .sessions import Full, Session, Sessions

COOKIE = "__Host-limpet"
TOKEN = "X-Limpet-Token"
_ALERTS = 20  # of the guard, the latest
_LONGEST = 4096  # bytes of a POST
_PAGE = Path(__file__).with_name("page")


class Page:
    """The handlers; `life_s` is how long a log-in lasts."""

    def __init__(self, settings: Settings, life_s: float) -> None:
        self._settings = settings
        self._life_s = life_s
        self._door = Door()
        self._sessions = Sessions(settings, life_s)
        self._key = secrets.token_bytes(32)

    def application(self, port: int) -> ASGIApp:
        """All of it, behind its guards; the page is asked for at `port` of the broker's names."""
        routes = [
            Route("/", self._index),
            Route("/session", self._session),
            Route("/alerts", self._alerts),
            Route("/login", self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            WebSocketRoute("/link", self._link),
            Mount("/page", StaticFiles(directory=_PAGE)),
        ]
        inner = Starlette(routes=routes, lifespan=self._lifespan)
        return Guards(inner, self._settings.names, port)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._sessions.watch())
        try:
            yield
        finally:
            watch.cancel()
            await self._sessions.close()

    async def begin(self) -> None:
        """Remove what a server that was killed left at the broker; `KitError` when it cannot."""
        await self._sessions.begin()

    # -- requests

    async def _index(self, _: Request) -> Response:
        return Response((_PAGE / "index.html").read_bytes(), media_type="text/html")

    async def _session(self, request: Request) -> Response:
        """What the page has to know: a token, and when somebody is logged in, what he may see."""
        cookie = request.cookies.get(COOKIE, "")
        if not 20 <= len(cookie) <= 64:
            cookie = secrets.token_urlsafe(32)
        session = self._sessions.of(cookie)
        return await self._answer(cookie, session)

    async def _alerts(self, request: Request) -> Response:
        """What the guard told last; nothing for who is not logged in."""
        session = self._sessions.of(request.cookies.get(COOKIE, ""))
        shown = await asyncio.to_thread(self._told, session.person) if session else []
        return JSONResponse({"alerts": shown}, headers={"Cache-Control": "no-store"})

    async def _login(self, request: Request) -> Response:
        said = await self._post(request)
        if said is None:
            return _no(400, "This page is too old: load it again.")
        name, password = said.get("name"), said.get("password")
        if not isinstance(name, str) or not isinstance(password, str) or not name or not password:
            return _no(400, "A name and a password are needed.")
        address = request.client.host if request.client else ""
        try:
            secret = Secret(password.encode("utf-8", "replace"))  # of half a surrogate pair
            person = await self._door.admit(name[:64], secret, address)
        except TooOften as e:
            wait = int(e.wait_s) + 1
            words = f"Too many wrong passwords. Try again in {(wait + 59) // 60} min."
            return _no(429, words, {"Retry-After": str(wait)})
        if person is None:
            return _no(401, "Name or password are wrong.")
        try:
            cookie = await self._sessions.open(person)
        except Full:
            return _no(503, "Too many people are logged in. Try again later.")
        except KitError:
            return _no(503, "The broker did not take this log-in. Try again.")
        return await self._answer(cookie, self._sessions.of(cookie))

    async def _logout(self, request: Request) -> Response:
        if await self._post(request) is None:
            return _no(400, "This page is too old: load it again.")
        await self._sessions.end(request.cookies.get(COOKIE, ""))
        return await self._answer(secrets.token_urlsafe(32), None)

    async def _link(self, window: WebSocket) -> None:
        session = self._sessions.of(window.cookies.get(COOKIE, ""))
        if session is None:
            await window.accept(bridge.PROTOCOL)  # or the page would not learn the code
            await window.close(bridge.ENDED)
            return
        await bridge.serve(window, session, self._settings)

    # -- inside

    async def _answer(self, cookie: str, session: Session | None) -> Response:
        shown: dict[str, Any] = {"token": self._token(cookie)}
        if session:
            shown.update(await asyncio.to_thread(self._seen, session.person))
            shown["ends"] = int(session.ends)
        answer = JSONResponse(shown)
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(
            COOKIE,
            cookie,
            secure=True,
            httponly=True,
            samesite="strict",
            max_age=int(self._life_s),
        )
        return answer

    def _seen(self, person: Person) -> dict[str, Any]:
        with People() as ledger:
            units = ledger.devices_of(person, self._settings.kit)
            try:
                known = presence.by_session(ledger, self._settings, units)
            except KitError:
                known = {}
        return {
            "person": person.name,
            "running": server.open_broker(self._settings).running(),
            "devices": [
                {
                    "name": u.name,
                    "ledger": u.state,
                    "alert": u.alert,
                    "machine": u.machine,
                    "online": known.get(u.name),  # null: its retained state will tell
                }
                for u in units
            ],
        }

    def _told(self, person: Person) -> list[dict[str, str]]:
        """Alerts that a person may see: of addresses who sees every device, of clones who sees
        that one."""
        return [
            {"at": one["at"], "what": one["what"], "words": alerts.words(one)}
            for one in alerts.last(self._settings.folder, _ALERTS)
            if person.devices is None or one.get("device") in person.devices
        ]

    def _token(self, cookie: str) -> str:
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    async def _post(self, request: Request) -> dict[str, Any] | None:
        """The body of a POST of our own page, else None."""
        token = self._token(request.cookies.get(COOKIE, ""))
        if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(), token.encode()):
            return None
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LONGEST:
                return None
        try:
            said = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            return None
        return said if isinstance(said, dict) else None


def _no(code: int, words: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": words}, code, {"Cache-Control": "no-store", **(headers or {})})
