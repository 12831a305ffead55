"""Which record logs in, how long to wait before the next try, and what became of the last one.

The one place where the vault and the schedules meet: PROTOCOLS.md 3 and 7.
"""

import os
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from . import record as fields
from . import vault, x509
from .errors import LimpetError, Refused, Untrusted, forget
from .retry import CLOSED, NETWORK, REFUSED, UNTRUSTED, Retry, refusal

_AGAIN_MS = const(
    (600_000, 3_600_000)
)  # after its first and its second strike a pending record waits
_NOTE_MS = const(900_000)  # what is left of a refused wait is written this often at most
_STEPS = const(6)
_HEALTHY_MS = const(60_000)
_QUICK = const(8)  # so many connections may end within a minute before the waits grow
CHANGE = "CHANGE"  # code of a connection that we end to log in with another record


def random_bits():
    """24 random bits."""
    return int.from_bytes(os.urandom(3), "big")


class Logins:
    """`store` is a Vault; `random` gives 24 random bits."""

    def __init__(self, store, random):
        self.vault = store
        self.random = random
        self.retry = Retry(random)
        self._on_pending = False  # the record handed out last is the pending one
        self._failed = None  # how the pending one failed, while the confirmed one is tried
        self._both = False  # both are refused: later tries alternate
        self._due = None  # ticks from which a struck pending record is tried again
        self.at = 0  # ticks of the last login
        self.count = 0  # logins since a connection lasted
        self._wait = 0  # ms, noted before a CONNECT that may be refused again

    def name(self):
        """The device's name, empty when nothing is enrolled that can be read."""
        try:
            record = self.vault.read()
        except LimpetError:
            return ""
        if not record:
            return ""
        name = record.one(fields.NAME).decode()
        record.wipe()
        return name

    def record(self):
        """The record to log in with now, None when nothing is enrolled; wipe it after use.

        Raises LimpetError when what is there cannot be used.
        """
        self._on_pending = False
        found = self.vault.records()
        if len(found) < 2:
            self._failed = None
            self._both = False
            return found[0] if found else self.vault.read()
        waits = self._due is not None and ticks_diff(self._due, ticks_ms()) > 0
        self._on_pending = not (self._failed or waits)
        chosen = found.pop(1 if self._on_pending else 0)
        chosen.pending = self._on_pending
        found[0].wipe()
        return chosen

    def floor(self, record):
        """The time (s since 1970) before which it cannot be: PROTOCOLS.md 8."""
        floor = int.from_bytes(record.one(fields.EARLIEST) or b"", "big")
        if self.vault.journal:
            floor = max(floor, self.vault.journal.floor)
        for der in record.all(fields.ANCHOR):
            floor = max(floor, x509.Certificate(der).not_before)
        return floor

    def raise_floor(self, floor):
        """Keep a later floor, over resets."""
        self.vault.note(floor=floor)

    # -- what happens

    def sending(self):
        """CONNECT is about to be sent. After a refusal this try counts as the next one until it
        ends otherwise, so that a reset in the middle of it does not hammer."""
        j = self.vault.journal
        if j and j.steps and not self._wait:  # once a try, which may go to several addresses
            steps = min(j.steps + 1, _STEPS)
            self._wait = refusal(steps, self.random)
            self.vault.note(steps=steps, left=self._wait // 1000)

    def failed(self, failure):
        """After a try or a connection that ended: ms to wait before the next one."""
        if failure.code == CHANGE:
            return 0
        kind = classify(failure)
        if self._on_pending and not self._both:
            self._forgive()
            self._failed = failure  # the confirmed record at once
            return 0
        if kind != REFUSED:
            self._forgive()
            self._failed = None
            return self.retry.wait(kind)
        if self._both:  # the other of the two is next
            self._failed = failure if self._on_pending else None
        elif self._failed and classify(self._failed) == REFUSED:
            self._both = True
            self._failed = None
        else:
            self._failed = None
        if not self._wait:
            self._wait = refusal(1, self.random)
            self.vault.note(steps=1, left=self._wait // 1000)
        wait = self._wait
        self._wait = 0  # it has counted; what comes next does not take it back
        return wait

    def _forgive(self):
        """The try that was counted in advance did not end in a refusal."""
        if self._wait:
            self._wait = 0
            self.vault.note(steps=self.vault.journal.steps - 1, left=0)

    def accepted(self, record):
        """A subscription was granted on a connection that used this record."""
        self.at = ticks_ms()
        if self.count < _QUICK:
            self.count += 1
            self.retry.healthy()
        if self.vault.pending and not self._on_pending and self._failed:
            self._strike()
        self._on_pending = self._both = False
        self._failed = None
        self._wait = 0
        self.vault.confirm(record)

    def lasts(self):
        """To be called now and then while a connection lasts, and at its end: after a minute the
        waits begin anew."""
        if ticks_diff(ticks_ms(), self.at) > _HEALTHY_MS:
            self.count = 0
            self.retry.healthy()

    def _strike(self):
        """The pending record failed where the confirmed one works."""
        strikes = self.vault.journal.strikes + 1
        if strikes < vault.STRIKES:
            self.vault.note(strikes=strikes)
            self._due = ticks_add(ticks_ms(), _AGAIN_MS[strikes - 1])
            return
        from . import slots

        self._due = None
        slots.drop(self.vault, classify(self._failed))

    @property
    def is_due(self):
        """Whether a struck pending record is to be tried again now."""
        if not self.vault.pending or self._due is None:
            return False
        if ticks_diff(self._due, ticks_ms()) > 0:
            return False
        self._due = None
        return True

    # -- refused waits, which outlive a reset

    def waiting(self):
        """ms that are left of a refused wait; also after a reset."""
        j = self.vault.journal
        if not j or not j.left:
            return 0
        return max(0, j.left - max(0, self.vault.now() - j.clock)) * 1000

    def pieces(self, ms):
        """The pieces (ms) in which to wait `ms`: a refused wait is noted as it passes."""
        j = self.vault.journal
        if not j or not j.left:
            yield ms
            return
        piece = max(_NOTE_MS, ms // 8)
        while ms > piece:
            yield piece
            ms -= piece
            self.vault.note(left=ms // 1000)
        yield ms
        self.vault.note(left=0)

    def skip(self, seconds=None):
        """Somebody wants the next try now, or `seconds` of a wait have passed in deep sleep."""
        j = self.vault.journal
        if j and j.left:
            self.vault.note(left=0 if seconds is None else max(0, j.left - seconds))

    # -- what the kit is told

    @property
    def told(self):
        """What an acknowledgement would tell: it is due when this changes."""
        j = self.vault.journal
        return self.vault.pending, j and j.sequence

    def acknowledgement(self, record):
        """What the kit is told (64 bytes) after a login with this record."""
        from . import speak

        ack = speak.last_ack(record, self.vault.journal)
        forget("speak")
        return ack


def classify(failure):
    """A LimpetError's class of schedule."""
    if isinstance(failure, Refused):
        return REFUSED
    if isinstance(failure, Untrusted):
        return UNTRUSTED
    return CLOSED if failure.code == "CLOSED_ON_LOGIN" else NETWORK
