"""The port's `getaddrinfo`: it blocks, knows no deadline, and gives one address as a tuple.

Settings: `hosts` {name: address}; `ports` {"123": one that needs no root}; `resolver_ms` until an
answer; `resolver_dead` (no DNS server answers) and then `resolver_wait_ms`, the time until the
port gives up.
"""

import socket as _host
import time as _time

from . import config, network

AF_INET = 2
AF_INET6 = 10
# 1 + 1 + 2 + 3 s for each of the two servers that DHCP gives (extmod/modlwip.c, lwIP's dns.c)
_GIVES_UP_MS = 14_000
_LOCAL_MS = 5_000  # esp32 asks by mDNS for .local first
_NOT_FOUND = -2


def numeric(text):
    """Whether it is an address and not a name."""
    return ":" in text or not text.rsplit(".", 1)[-1].strip("0123456789")


def sockaddr(address):
    """The desktop's form of an address tuple."""
    port = config.recent("ports", {}).get(str(address[1]), address[1])
    return _host.getaddrinfo(address[0], port)[0][-1]


def plain(sockaddr):
    """The port's tuple of the desktop's form."""
    found = _host.sockaddr(sockaddr)
    return (_host.inet_ntop(found[0], found[1]), found[2])


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    """[(family, type, 0, "", (address, port))], one row. Raises OSError(-2)."""
    if isinstance(host, bytes):
        host = host.decode()
    if not numeric(host):
        host = _ask(host)
    esp32_six = config.board["port"] == "esp32" and ":" in host
    row = (AF_INET6 if esp32_six else AF_INET, type or 1, 0, "", (host, port))
    return [row]


def _ask(name):
    known = config.recent("hosts", {}).get(name)
    if config.recent("resolver_dead", False) or not network.passing():
        _time.sleep_ms(config.recent("resolver_wait_ms", _GIVES_UP_MS))
        if config.board["port"] == "esp32" and name.endswith(".local"):
            _time.sleep_ms(_LOCAL_MS)
        raise OSError(_NOT_FOUND)
    _time.sleep_ms(config.recent("resolver_ms", 30))
    if known:
        return known
    try:
        found = _host.getaddrinfo(name, 0)
    except OSError:
        raise OSError(_NOT_FOUND)
    for row in found:
        if row[0] == AF_INET:
            return plain(row[-1])[0]
    return plain(found[0][-1])[0]
