"""Who is logged in: one session a browser, each with a few accounts at the broker (seats).

A session ends by log-out, by time, and within `WATCH_S` of a change of its person in the ledger.
With its end its bridges are cut at once and its accounts leave the broker with the next export.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..broker.settings import Settings
from ..errors import KitError
from .export import Export
from .people import People, Person, Seat

SEATS = 4  # windows of one browser; each is a client of the broker and needs its own account
A_PERSONS = 5  # sessions of one person; with one more the oldest ends
MOST = 100  # sessions in all
WATCH_S = 0.2
_FAILURES = (KitError, sqlite3.Error, OSError)  # of the ledger: it is asked again
log = logging.getLogger("limpet")


class Full(Exception):
    """As many people are logged in as there may be."""


@dataclass(eq=False)
class Session:
    """One login; `free` are its seats that no window holds, `over` is set when it ends."""

    person: Person
    seats: tuple[Seat, ...]
    ends: float
    free: list[Seat]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Sessions:
    """All sessions of one web server, by the value of their cookie. `clock`: s since 1970."""

    def __init__(
        self, settings: Settings, life_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._broker = settings.kit
        self._verifier = settings.verifier
        self._life_s = life_s
        self._clock = clock
        self._export = Export(settings)
        self._by_cookie: dict[str, Session] = {}
        self._left: list[Seat] = []  # of sessions that have ended, still in the ledger

    def of(self, cookie: str) -> Session | None:
        """The session of a cookie, while it lasts."""
        session = self._by_cookie.get(cookie)
        return session if session and session.ends > self._clock() else None

    async def open(self, person: Person) -> str:
        """A new session; the value of its cookie. Returns when the broker knows its accounts.

        Raises `Full`, and `KitError` when the person was changed meanwhile or the broker does not
        take the accounts. With a broker that does not run it succeeds: the page says so.
        """
        mine = [one for one in self._by_cookie.values() if one.person.name == person.name]
        if len(mine) >= A_PERSONS:
            await self._end(mine[: 1 - A_PERSONS])
        if len(self._by_cookie) >= MOST:
            raise Full
        ends = self._clock() + self._life_s
        seats = await asyncio.to_thread(self._take, person, ends)
        session = Session(person, tuple(seats), ends, seats)
        cookie = secrets.token_urlsafe(32)
        self._by_cookie[cookie] = session
        try:
            await self._export.sync()
        except BaseException:
            await self._end([session])
            raise
        return cookie

    async def end(self, cookie: str) -> None:
        """Log out; returns when the broker has been told."""
        session = self._by_cookie.get(cookie)
        if session:
            await self._end([session])

    async def begin(self) -> None:
        """Remove what a server that was killed left at the broker."""
        await asyncio.to_thread(self._clear)
        await self._export.sync()

    async def close(self) -> None:
        """The server ends: so do all sessions."""
        await self._end(list(self._by_cookie.values()))

    async def watch(self) -> None:
        """End sessions whose time is over or whose person was changed; until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            if not self._by_cookie and not self._left:
                continue
            try:
                await self._forget()
                people, seats = await asyncio.to_thread(self._look)
                ended = [
                    one
                    for one in self._by_cookie.values()
                    if one.ends <= self._clock()
                    or people.get(one.person.name) != one.person
                    or not seats.issuperset(seat.account for seat in one.seats)
                ]
                if ended:
                    await self._end(ended)
            except _FAILURES as e:
                log.error("%s", e)

    async def _end(self, ended: Iterable[Session]) -> None:
        listed = list(ended)
        for session in listed:
            session.over.set()
        for cookie, session in list(self._by_cookie.items()):
            if session in listed:
                del self._by_cookie[cookie]
        self._left += [seat for session in listed for seat in session.seats]
        with contextlib.suppress(*_FAILURES):  # `watch` goes on with it
            await self._forget()

    async def _forget(self) -> None:
        """Take the accounts of ended sessions out of the ledger, and so from the broker."""
        left, self._left = self._left, []
        if not left:
            return
        try:
            await asyncio.to_thread(self._leave, left)
        except BaseException:
            self._left += left
            raise
        await self._export.sync()  # if that fails, the next export tells the broker

    # -- in the ledger, each in a thread

    def _take(self, person: Person, ends: float) -> list[Seat]:
        with People() as ledger:
            return ledger.take_seats(person, self._broker, SEATS, int(ends), self._verifier)

    def _leave(self, seats: list[Seat]) -> None:
        with People() as ledger:
            ledger.leave_seats(seats)

    def _clear(self) -> None:
        with People() as ledger:
            ledger.clear_seats(self._broker)

    def _look(self) -> tuple[dict[str, Person], set[str]]:
        with People() as ledger:
            return {one.name: one for one in ledger.people()}, ledger.seats()
