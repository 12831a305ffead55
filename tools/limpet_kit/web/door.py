"""Who may come in: a name and a password, and how often somebody may try."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from ..secret import Secret
from . import people
from .limits import KEPT, Limiter, network
from .people import People, Person

WINDOW_S = 600.0
OF_ADDRESS = 10  # failures of one address (of IPv6: one /64) within the window
OF_NAME = 30  # of one name, from addresses that it never logged in from
AT_A_TIME = 2  # passwords that are tried at once; each takes 64 MiB


class TooOften(Exception):
    """Try again after so many seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class Door:
    """Tries passwords. What it remembers of failures is gone with the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = Limiter(OF_ADDRESS, WINDOW_S, clock)
        self._names = Limiter(OF_NAME, WINDOW_S, clock)
        # Where a person has logged in from: there nobody else's guesses lock the person out.
        self._homes: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._busy = asyncio.Semaphore(AT_A_TIME)
        self._stranger = people.hashed(Secret(secrets.token_bytes(16)))

    async def admit(self, name: str, password: Secret, address: str) -> Person | None:
        """The person, or None when name or password are wrong. Raises `TooOften`."""
        source = network(address)
        async with self._busy:
            at_home = (name, source) in self._homes
            wait_s = max(
                self._addresses.wait_s(source), 0 if at_home else self._names.wait_s(name)
            )
            if wait_s > 0:
                raise TooOften(wait_s)
            person = await asyncio.to_thread(self._try, name, password)
        if person is None:
            self._addresses.failed(source)
            self._names.failed(name)
            return None
        self._addresses.forget(source)
        self._homes[(name, source)] = None
        self._homes.move_to_end((name, source))
        if len(self._homes) > KEPT:
            self._homes.popitem(last=False)
        return person

    def _try(self, name: str, password: Secret) -> Person | None:
        with People() as ledger:
            person = ledger.person(name)
        # The same work for a stranger, so that time does not tell who exists.
        right = people.fits(password, person.verifier if person else self._stranger)
        return person if right else None
