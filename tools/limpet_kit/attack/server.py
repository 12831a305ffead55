"""A server that writes down what reaches it: an impostor, a broken one, or an honest one."""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ..broker.settings import Settings
from .behaviours import ACCEPTED, Behaviour, Message, Peer, writes_down
from .certificates import Identity
from .stream import TICK_S, Seen, Shape, Stream

__all__ = ["ACCEPTED", "Seen", "Server"]


class Server:
    """Listens on `address` while it is entered, one thread a connection.

    `identity` is what it proves itself with, None for a server without TLS. `shape` changes its
    TLS bytes on the way, `context` its settings. `silent`: it says nothing at all.

    `behaviours` are for one connection after the other, the last one stays; they can be changed
    while it runs. Without them it says `greeting`, answers the first bytes with `answer` (a
    CONNACK) and listens. `seen` has all connections, `published` the messages that `serve` got;
    `settings` is the broker whose place it takes, where it takes one.
    """

    def __init__(
        self,
        identity: Identity | None,
        address: tuple[str, int] = ("127.0.0.1", 0),
        answer: bytes = ACCEPTED,
        greeting: bytes = b"",
        shape: Shape | None = None,
        context: Callable[[ssl.SSLContext], None] | None = None,
        silent: bool = False,
        behaviours: Sequence[Behaviour] = (),
        settings: Settings | None = None,
    ) -> None:
        self.behaviours = list(behaviours) or [writes_down(answer, greeting)]
        self.settings = settings
        self.seen: list[Seen] = []
        self.published: list[Message] = []
        self.arrived = threading.Event()  # somebody connected
        self.left = threading.Event()  # and one of them has gone
        self._shape = shape
        self._silent = silent
        self._context: ssl.SSLContext | None = None
        if identity and not silent:
            self.show(identity, context)
        self._address = address
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Server:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(self._address)
            self._socket.listen(50)
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(TICK_S)
        self.host, self.port = self._socket.getsockname()[:2]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def show(
        self, identity: Identity, context: Callable[[ssl.SSLContext], None] | None = None
    ) -> None:
        """Prove itself with this from the next connection on."""
        self._context = _context(identity, context)

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self.seen)

    @property
    def handshakes(self) -> int:
        """How many clients finished a handshake, that is, took this server for theirs."""
        return sum(one.done for one in self.seen)

    @property
    def plain(self) -> bytes:
        """All that clients said to it in confidence: none, if they verify."""
        return b"".join(bytes(one.plain) for one in self.seen)

    def holds(self, secret: bytes) -> bool:
        """Whether any four bytes in a row of `secret` arrived on any connection."""
        return any(one.holds(secret) for one in self.seen)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, where = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            behave = self.behaviours[min(len(self.seen), len(self.behaviours) - 1)]
            seen = Seen(where[0])
            self.seen.append(seen)
            self.arrived.set()
            self._start(self._serve, client, seen, behave)

    def _serve(self, client: socket.socket, seen: Seen, behave: Behaviour) -> None:
        stream = Stream(client, seen, self._stop, self._context, self._shape)
        peer = Peer(stream, self.published)
        try:
            if self._silent:
                peer.wait()
            elif stream.open():
                behave(peer)
        except OSError as e:  # also TLS's
            seen.error = str(e)
        finally:
            client.close()
            seen.gone = True
            self.left.set()


def _context(
    identity: Identity, change: Callable[[ssl.SSLContext], None] | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # a hostile server has no scruples
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate"), Path(folder, "key")
        certificate.write_bytes(identity.chain_pem)
        key.write_bytes(identity.key_pem)
        context.load_cert_chain(certificate, key)
    if change:
        change(context)
    return context
