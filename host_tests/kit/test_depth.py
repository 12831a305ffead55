"""How deep the library stands on the stack when a handshake runs.

An RP2040's stack is 8 KB and borders the heap without a guard; a handshake takes 3 to 4 KB of it
(facts/rp2040-client.md 0.2). CPython can count the calls; the code is the same.
"""

import asyncio
import sys

from limpet import aio, link, packets
from limpet.dial import Dialler
from limpet.flight import Flight
from limpet.keeper import Keeper
from limpet.record import SERVER
from limpet.status import Status
from limpet.topics import Router
from unit.test_link import CONNACK, Net, Stream, Trust

MOST = 6


def calls_of_ours():
    frame = sys._getframe(1)
    count = 0
    while frame:
        count += "/lib/limpet/" in frame.f_code.co_filename
        frame = frame.f_back
    return count


class Counting(Stream):
    def __init__(self):
        super().__init__([None, None], [CONNACK])
        self.deepest = 0

    def write(self, buf):
        self.deepest = max(self.deepest, calls_of_ours())
        return super().write(buf)


class Record:
    generation = 1

    def all(self, tag):
        return [b"127.0.0.1:8883"] if tag == SERVER else []

    def wipe(self):
        pass


class Logins:
    def floor(self, record):
        return 0


class Store:
    pending = scrub_due = False


def test_at_most_six_calls_deep_when_a_handshake_runs(monkeypatch):
    async def ready(raw, for_write):
        pass

    async def login():
        def log(line):
            pass

        buffers = packets.Out(64), packets.In(64)
        router = Router(log)
        status = Status("OFFLINE", log)
        flight = Flight(1, 1, "wait")
        keeper = Keeper(
            Store(),
            Logins(),
            dialler,
            None,
            router,
            flight,
            buffers,
            status,
            60,
            True,
            lambda: None,
        )
        return await keeper.reach(Record(), lambda: bytearray(b"CONNECT"))

    stream = Counting()
    dialler = Dialler()
    monkeypatch.setattr(dialler, "_trust_for", lambda record, host: Trust(stream))
    monkeypatch.setattr(link, "socket", Net())
    monkeypatch.setattr(aio, "wait", ready)
    assert asyncio.run(login()) == 0
    assert 3 <= stream.deepest <= MOST
    print("calls of ours on the stack:", stream.deepest)
