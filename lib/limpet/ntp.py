"""The time from NTP servers, without blocking (RFC 5905): two of them have to agree.

NTP is not authenticated. An answer must return our random time-stamp, so that only who sees the
question can forge one; what such a forger may do is bounded in times.py. A generator of waits, as
link.py describes them.
"""

import os
import socket
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

from . import clock
from .errors import Lost

_1970 = const(2_208_988_800)  # in NTP's seconds, which begin in 1900
_ERA = const(4_294_967_296)  # s; era 1 begins in 2036
_WAIT_MS = const(2_000)  # for one answer
_APART_S = const(60)  # by which two servers may differ


def set_clock(servers, resolver, earliest, latest, log):
    """Set the clock to what two servers agree on, if it lies in between (s since 1970)."""
    t = yield from ask(servers, resolver)
    if t is None:
        log("no two time servers agree")
    elif earliest <= t <= latest:
        clock.set_to(t)
    else:
        log("the time servers say %s, which cannot be" % clock.date(t))


def ask(servers, resolver):
    """Seconds since 1970 on which two of `servers` (`host` or `host:port`) agree, or None."""
    answers = []
    left = len(servers)
    for server in servers:
        if len(answers) + left < 2:
            break  # it takes two, and the network may be one without time servers
        left -= 1
        host, _, port = server.partition(":")
        port = int(port or 123)
        try:
            where = (yield from resolver.addresses(host, port))[0]
            t = yield from _ask(where)
        except (Lost, OSError):
            continue
        if t is None:
            resolver.bad(host, port)  # a pool gives others next time
            continue
        for other in answers:
            if abs(other - t) <= _APART_S:
                return t
        answers.append(t)
    return None


def _ask(where):
    s = socket.socket(where[0], socket.SOCK_DGRAM)
    try:
        s.setblocking(False)
        s.connect(where[-1])  # answers of others do not reach us
        stamp = os.urandom(8)
        s.send(b"\x23" + bytes(39) + stamp)  # version 4, client
        until = ticks_add(ticks_ms(), _WAIT_MS)
        while True:
            left = ticks_diff(until, ticks_ms())
            if left <= 0:
                return None
            yield s, False, left
            try:
                answer = s.recv(48)
            except OSError:
                continue  # nothing yet, or nobody there: the time runs
            if answer and (t := parse(answer, stamp)) is not None:
                return t
    finally:
        s.close()  # boards have few


def parse(answer, stamp):
    """The transmit time in an answer to our time-stamp, s since 1970; None when it is none."""
    if len(answer) < 48 or answer[24:32] != stamp:
        return None
    if answer[0] & 7 != 4 or answer[0] >> 6 == 3 or not 0 < answer[1] < 16:
        return None  # no server, not synchronised, or a kiss of death
    seconds = int.from_bytes(answer[40:44], "big")
    return seconds - _1970 + (0 if seconds & 0x80000000 else _ERA)
