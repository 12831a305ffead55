"""How deep the library stands on the stack when a handshake runs.

An RP2040's stack is 8 KB and borders the heap without a guard; a handshake takes 3 to 4 KB of it
(facts/rp2040-client.md 0.2). CPython can count the calls; the code is the same.
"""

import asyncio
import sys

from limpet import aio, link
from limpet.client import Client
from limpet.record import SERVER
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

    def one(self, tag):
        return None

    def wipe(self):
        pass


class Store:
    pending = scrub_due = False
    journal = None


def test_at_most_six_calls_deep_when_a_handshake_runs(monkeypatch):
    async def ready(raw, for_write):
        pass

    async def login():
        return await keeper.reach(Record(), lambda: bytearray(b"CONNECT"))

    stream = Counting()
    keeper = Client(Store(), wifi=False)._keeper
    monkeypatch.setattr(keeper.dialler, "_trust_for", lambda record, host: Trust(stream))
    monkeypatch.setattr(link, "socket", Net())
    monkeypatch.setattr(aio, "wait", ready)
    assert asyncio.run(login()) == 0
    assert 3 <= stream.deepest <= MOST
    print("calls of ours on the stack:", stream.deepest)
