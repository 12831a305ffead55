"""What happened to the records: strikes, refusals, floor of the clock. Layout: PROTOCOLS.md 4.

Two places, written in turn; the highest count whose tag is right wins, so that a cut loses at
most the last entry. The tag is made with a key of the confirmed record.
"""

import struct

from micropython import const

from . import seal
from .errors import LimpetError

_LAYOUT = const(">4sBBBBIIQIQB3x")
_MAGIC = const(b"LMPJ")


class Journal:
    """The entries as they are in `store`, under one key."""

    def __init__(self, store, key):
        self.store = store
        self.key = key
        self._place = 0  # of the entry that counts
        self.count = 0
        self.strikes = 0  # failed logins with the pending record while the confirmed one worked
        self.steps = 0  # refusals in a row, at most 6
        self.cause = 0  # why the last change was dropped
        self.sequence = 0  # of the last change taken
        self.floor = 0  # seconds since 1970
        self.left = 0  # seconds of a refused wait
        self.clock = 0  # own clock when written
        self.scrub = 1  # old secrets may be left in the flash
        for place in (0, 1):
            self._load(place)

    def _load(self, place):
        entry = self.store.read("log%d" % place)
        if not entry or len(entry) != 72:
            return
        magic, version, strikes, steps, cause, count, sequence, floor, left, clock, scrub = (
            struct.unpack_from(_LAYOUT, entry, 0)
        )
        view = memoryview(entry)
        if magic != _MAGIC or version != 1 or count <= self.count:
            return
        if not seal.same(seal.hmac(self.key, view[:40]), view[40:]):
            return
        self._place = place
        self.count = count
        self.strikes = strikes
        self.steps = min(steps, 6)
        self.cause = cause
        self.sequence = sequence
        self.floor = floor
        self.left = left
        self.clock = clock
        self.scrub = scrub & 1

    def write(self, key=None):
        """Make what the attributes say last, under `key` if the confirmed record changes."""
        self.key = key or self.key
        self.count += 1
        entry = struct.pack(
            _LAYOUT,
            _MAGIC,
            1,
            self.strikes,
            self.steps,
            self.cause,
            self.count,
            self.sequence,
            self.floor,
            self.left,
            self.clock,
            self.scrub,
        )
        place = 1 - self._place
        try:
            self.store.write("log%d" % place, entry + seal.hmac(self.key, entry))
        except LimpetError:
            return  # a full flash costs the memory of strikes and refusals, not the connection
        self._place = place
