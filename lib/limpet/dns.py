"""One question to DNS without blocking (RFC 1035): A and AAAA over UDP.

A generator of waits, as link.py describes them.
"""

import os
import socket
from time import ticks_add, ticks_diff, ticks_ms

from micropython import const

_A = const(1)
_AAAA = const(28)
_WAITS_MS = const((1_000, 1_000, 2_000, 2_000))  # for one answer, the servers in turn
_MOST = const(4)  # addresses of a kind


def ask(host, servers):
    """The addresses (str) of a name, A before AAAA; a generator. OSError when none answers."""
    found = {}
    for i in range(len(_WAITS_MS)):
        where = socket.getaddrinfo(servers[i % len(servers)], 53, 0, socket.SOCK_DGRAM)[0]
        s = socket.socket(where[0], socket.SOCK_DGRAM)
        try:
            s.setblocking(False)
            s.connect(where[-1])
            number = os.urandom(2)
            for kind in (_A, _AAAA):
                s.send(_query(number, host, kind))
            until = ticks_add(ticks_ms(), _WAITS_MS[i])
            told = set(found)
            while len(told) < 2:
                left = ticks_diff(until, ticks_ms())
                if left <= 0:
                    break
                yield s, False, left
                try:
                    answer = s.recv(512)
                except OSError:
                    continue  # nothing yet, or refused: the time runs
                if answer and answer[:2] == number and len(answer) > 12:
                    kind, texts = _parse(answer)
                    if kind in (_A, _AAAA):
                        told.add(kind)
                        if texts is not None:
                            found[kind] = texts
        finally:
            s.close()  # boards have few
        if _A in found:
            break
    if not found:
        raise OSError("no answer from %s" % ", ".join(servers))
    return found.get(_A, []) + found.get(_AAAA, [])


def _query(number, host, kind):
    labels = b"".join([bytes((len(n),)) + n for n in host.encode().split(b".") if n])
    return number + b"\1\0\0\1\0\0\0\0\0\0" + labels + bytes((0, 0, kind, 0, 1))


def _parse(p):
    """(kind asked for, texts) of an answer; kind 0 when it is malformed, None for texts when the
    server cannot tell (4.1.1, RCODE): that is for the next one."""
    texts = []
    try:
        at = _skip(p, 12)
        asked = p[at] << 8 | p[at + 1]
        if p[3] & 15 not in (0, 3):
            return asked, None
        at += 4
        for _ in range(p[6] << 8 | p[7]):
            at = _skip(p, at)
            kind = p[at] << 8 | p[at + 1]
            n = p[at + 8] << 8 | p[at + 9]
            at += 10
            data = p[at : at + n]
            at += n
            if (
                kind == asked
                and n == len(data) == (4 if kind == _A else 16)
                and len(texts) < _MOST
            ):
                texts.append(_text(data))
    except IndexError:
        return 0, []
    return asked, texts


def _skip(p, at):
    """Behind the name at `at`."""
    while p[at]:
        if p[at] & 0xC0:
            return at + 2
        at += p[at] + 1
    return at + 1


def _text(data):
    if len(data) == 4:
        return ".".join([str(b) for b in data])
    return ":".join(["%x" % (data[i] << 8 | data[i + 1]) for i in range(0, 16, 2)])
