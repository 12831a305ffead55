"""From a record of the vault to a link that is logged in: every server, every address.

A generator of waits, as link.py describes them.
"""

from micropython import const

from . import clock, packets, resolve
from . import record as fields
from .errors import Lost, Untrusted
from .link import Link
from .trust import Trust

_DAY = const(86_400)
_PSK = const(b"\x03")  # fields.PSK and X509, as they stand in a record
_X509 = const(b"\x04")


class Dialler:
    """Keeps what serves again at the next try: addresses and, for one host, the trust.

    `link` makes a Link, whose `login` is that of MQTT unless told otherwise.
    """

    def __init__(self, link=Link):
        self.link = link
        self.resolver = resolve.Resolver()
        self._trust = None
        self._trusting = None  # the record's generation and the host that it is for

    def dial(self, record, hello):
        """A link that is logged in, and its session-present flag; a generator.

        `hello()` makes the CONNECT. Raises what the last server said: Refused at once, otherwise
        Untrusted before Lost.
        """
        failure = None
        for server in record.all(fields.SERVER):
            host, _, port = server.decode().rpartition(":")
            host = host.strip("[]")
            try:
                addresses = yield from self.resolver.addresses(host, int(port))
            except Lost as e:
                failure = failure or e
                continue
            for address in addresses:
                link = self.link()
                try:
                    present = yield from link.open(address, self._trust_for(record, host), hello)
                except BaseException as e:
                    link.close()
                    if isinstance(e, (OSError, MemoryError)):  # this address; the next may do
                        e = Lost("MEMORY" if isinstance(e, MemoryError) else "CONNECT", e)
                    if isinstance(e, Untrusted):
                        failure = e
                    elif not isinstance(e, Lost):
                        raise
                    failure = failure or e
                else:
                    self.resolver.good(host, int(port))
                    return link, present
            self.resolver.bad(host, int(port))
        raise failure or Lost("NO_SERVER")

    @property
    def ends(self):
        """When the chain that was verified last ends, s since 1970; 0 where there is none: PSK."""
        return self._trust.chain_ends if self._trust else 0

    def days_left(self):
        """Days until the anchor ends, and the server's certificate; () where there are none."""
        trust = self._trust
        if not trust or not trust.server_ends:
            return ()
        now = clock.now()
        return (trust.anchor_ends - now) // _DAY, (trust.server_ends - now) // _DAY

    def _trust_for(self, record, host):
        wanted = (record.generation, host)
        if self._trusting != wanted:
            self._trust = self._trusting = None  # its memory first
            profile = record.one(fields.PROFILE)
            psk = client = None
            if profile == _PSK:
                psk = record.one(fields.ACCOUNT), record.one(fields.PASSWORD)
            elif profile == _X509:
                client = record.one(fields.CERTIFICATE), record.one(fields.KEY)
            self._trust = Trust(
                record.all(fields.ANCHOR), host, record.all(fields.PIN), psk, client
            )
            self._trusting = wanted
        return self._trust


def hello(record, keepalive, clean, will=None):
    """The CONNECT of a record's account (packets.connect), which is the client id too."""
    account = record.one(fields.ACCOUNT)
    password = record.one(fields.PASSWORD)
    if record.one(fields.PROFILE) in (_PSK, _X509):  # TLS has said who we are
        password = None
    return packets.connect(account, account, password, keepalive, clean, will)


def interface(log):
    """The board's Wi-Fi, or False where there is none to bring up."""
    try:
        from .wifi import Wifi
    except ImportError:
        return False
    return Wifi(log)
