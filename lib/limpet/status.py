"""What a client is doing and why, for people and sketches; what it has done, in numbers."""

import json
from time import ticks_diff, ticks_ms

from micropython import const

UNPROVISIONED = "UNPROVISIONED"
OFFLINE = "OFFLINE"
CONNECTING = "CONNECTING"
ONLINE = "ONLINE"
UNTRUSTED = "UNTRUSTED"
REFUSED = "REFUSED"

_KEPT = const(8)  # changes that a slow reader of events can catch up with
_SOON_DAYS = const(60)  # from here on a certificate's end is warned of


def _silent(line):
    pass


class Counters:
    """Since the client was made."""

    def __init__(self):
        self.connects = 0  # logins that the server took
        self.failures = {}  # code of LimpetError: how often
        self.published = 0  # QoS 0 sent and QoS 1 queued
        self.acknowledged = 0  # QoS 1
        self.dropped = 0  # QoS 0 while offline
        self.received = 0
        self.bytes_out = 0  # of MQTT, before TLS
        self.bytes_in = 0


class Status:
    """State, reason and counters; `log` takes a line of text at each change."""

    def __init__(self, state, log):
        self.state = state
        self.reason = ""  # the last failure, or a word; its sentence is made when asked for
        self.counters = Counters()
        self.log = log or _silent
        self._next_at = None
        self.changes = None  # the last of them, (state, reason), once somebody follows (events.py)
        self.count = 0

    def set(self, state, reason=""):
        """Enter a state, and tell whoever waits for it."""
        if state == self.state and reason == self.reason:
            return
        self.state = state
        self.reason = reason
        if state in (ONLINE, CONNECTING):
            self._next_at = None  # or its ticks come round again
        if self.log is not _silent:  # or each failure would load the sentences for nobody
            self.log("%s: %s" % (state, reason) if reason else state)
        self.count += 1
        if self.changes is not None:
            self.changes.append((state, reason))
            if len(self.changes) > _KEPT:
                self.changes.pop(0)
            self.changed.set()

    def fail(self, state, failure, next_at):
        """Enter the state after a failure; `next_at` is the next try in ticks."""
        failures = self.counters.failures
        failures[failure.code] = failures.get(failure.code, 0) + 1
        self._next_at = next_at
        self.set(state, failure)
        self.log("next try in %d s" % self.next_try)

    @property
    def next_try(self):
        """Whole seconds until the next try, 0 when none is planned."""
        if self._next_at is None:
            return 0
        return max(0, (ticks_diff(self._next_at, ticks_ms()) + 999) // 1000)


class About:
    """What the device says of itself once it is online.

    `distrust` is the code of the last server that was not ours, to be told at the next login.
    """

    def __init__(self, dialler, times):
        self.dialler = dialler
        self.times = times
        self.distrust = ""

    def online(self, generation):
        """The retained state, as JSON."""
        about = {"state": "online", "generation": generation}
        if self.distrust:
            about["distrusted"] = self.distrust
        if self.times.refused:
            about["time"] = "refused"
        days = self.dialler.days_left()
        if days:
            about["anchor_days"], about["server_days"] = days
        return json.dumps(about).encode()

    def warning(self):
        """Words for a certificate that ends soon, otherwise empty."""
        for whose, days in zip(("anchor", "server"), self.dialler.days_left()):
            if days <= _SOON_DAYS:
                return "the certificate of the %s ends in %d days" % (whose, days)
        return ""


def offline(cause):
    """The retained state of one that has gone: its goodbye, or its will."""
    return json.dumps({"state": "offline", "cause": cause}).encode()
