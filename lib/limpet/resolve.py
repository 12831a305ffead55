"""Names to addresses. getaddrinfo only, for now: it blocks, on boards for up to 14 s."""

import socket

from .errors import Lost


def addresses(host, port):
    """All addresses of a server, as getaddrinfo's tuples; opaque, each port makes its own."""
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except OSError as e:
        raise Lost("DNS", "the name %s cannot be looked up (%s)" % (host, e))
    if not found:
        raise Lost("DNS", "the name %s has no address" % host)
    return found
