"""Names to addresses without blocking; the ports' getaddrinfo takes up to 14 s.

A generator of waits, as link.py describes them. An own query (dns.py) goes to the DNS
servers of the interface; getaddrinfo serves numbers, `.local`, and where no server is known.
A forged answer does no harm: TLS verifies whoever is reached.
"""

import socket

from .errors import Lost, forget


def dns_servers():
    """Addresses (str) of the interface's DNS servers; empty where the port does not tell."""
    try:
        import network

        found = network.ipconfig("dns")
    except (ImportError, AttributeError, ValueError, OSError):
        return []
    found = [found] if isinstance(found, str) else list(found)
    return [a for a in found if a not in ("", "0.0.0.0", "::")]


class Resolver:
    """Remembers the addresses that worked; asks anew after they did not."""

    def __init__(self, servers=dns_servers):
        self.servers = servers
        self._known = {}  # (host, port): addresses
        self._stale = set()

    def good(self, host, port):
        """A server was reached: its addresses serve again."""
        self._stale.discard((host, port))

    def bad(self, host, port):
        """No address worked: ask anew next time."""
        self._stale.add((host, port))

    def addresses(self, host, port):
        """All addresses of a server, as getaddrinfo's tuples, which each port makes in its own
        way; a generator. Raises Lost (DNS)."""
        key = (host, port)
        known = self._known.get(key)
        if known and key not in self._stale:
            return known
        servers = [] if _is_number(host) or host.endswith(".local") else self.servers()
        try:
            if servers:
                from .dns import ask

                found = []
                for text in (yield from ask(host, servers)):
                    found += _info(text, port)
                forget("dns")
            else:
                found = _info(host, port)
        except OSError as e:
            found = None
            why = e
        else:
            why = "no address"
        if not found:
            if known:  # better than nothing while DNS is away
                return known
            raise Lost("DNS", host, why)
        self._known[key] = found
        return found


def _info(host, port):
    return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)


def _is_number(host):
    return ":" in host or host.rsplit(".", 1)[-1].isdigit()
