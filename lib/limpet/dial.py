"""From a record of the vault to a link that is logged in: every server, every address.

A generator of waits, as link.py describes them.
"""

from . import resolve, vault
from .errors import Lost, Untrusted
from .link import Link
from .trust import Trust


class Dialler:
    """Keeps what serves again at the next try: addresses and, for one host, the trust."""

    def __init__(self):
        self._resolver = resolve.Resolver()
        self._trust = None
        self._trusting = None  # the record's generation and the host that it is for

    def dial(self, record, hello):
        """A link that is logged in, and its session-present flag; a generator.

        `hello()` makes the CONNECT. Raises what the last server said: Refused at once, otherwise
        Untrusted before Lost.
        """
        failure = None
        for server in record.all(vault.SERVER):
            host, _, port = server.decode().rpartition(":")
            try:
                addresses = yield from self._resolver.addresses(host, int(port))
            except Lost as e:
                failure = failure or e
                continue
            for address in addresses:
                link = Link()
                try:
                    present = yield from link.open(address, self._trust_for(record, host), hello)
                except BaseException as e:
                    link.close()
                    if isinstance(e, Untrusted):
                        failure = e
                    elif not isinstance(e, Lost):
                        raise
                    failure = failure or e
                else:
                    self._resolver.good(host, int(port))
                    return link, present
            self._resolver.bad(host, int(port))
        raise failure or Lost("NO_SERVER", "the vault names no server")

    def _trust_for(self, record, host):
        wanted = (record.generation, host)
        if self._trusting != wanted:
            self._trust = None  # its memory first
            self._trust = Trust(record.all(vault.ANCHOR), host)
            self._trusting = wanted
        return self._trust
