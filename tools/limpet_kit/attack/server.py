"""A server that writes down what reaches it: an impostor, a broken one, or an honest one.

It speaks TLS from memory buffers, so that its own bytes can be dripped, cut or replaced on their
way, and what a client sends is kept twice: as it came over the wire, and as it was meant.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .certificates import Identity

ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK, no session, code 0
_TICK_S = 0.05

# What a server's bytes become on their way: pieces, and the seconds before each.
Shape = Callable[[bytes], list[tuple[float, bytes]]]


@dataclass
class Seen:
    """One connection: `wire` as it came, `plain` what TLS made of it, `done` a handshake ended."""

    wire: bytearray = field(default_factory=bytearray)
    plain: bytearray = field(default_factory=bytearray)
    done: bool = False
    error: str = ""

    def holds(self, secret: bytes) -> bool:
        """Whether any four bytes in a row of `secret` arrived, in clear or inside TLS."""
        return any(
            secret[i : i + 4] in self.wire or secret[i : i + 4] in self.plain
            for i in range(max(1, len(secret) - 3))
        )


class Server:
    """Listens on `address` while it is entered, one thread a connection.

    `identity` is what it proves itself with, None for a server without TLS. `answer` is what it
    says to the first bytes of a client (a CONNACK), `greeting` what it says at once. `shape`
    changes its TLS bytes on the way, `context` its settings. `silent`: it says nothing at all.
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
    ) -> None:
        self.seen: list[Seen] = []
        self.arrived = threading.Event()  # somebody connected
        self.left = threading.Event()  # and one of them has gone
        self._identity = identity
        self._answer = answer
        self._greeting = greeting
        self._shape = shape
        self._silent = silent
        self._context = _context(identity, context) if identity else None
        self._address = address
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Server:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(self._address)
            self._socket.listen(16)
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(_TICK_S)
        self.host, self.port = self._socket.getsockname()[:2]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

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
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            seen = Seen()
            self.seen.append(seen)
            self.arrived.set()
            self._start(self._serve, client, seen)

    def _serve(self, client: socket.socket, seen: Seen) -> None:
        client.settimeout(_TICK_S)
        try:
            if self._context and not self._silent:
                self._speak(client, seen, self._context)
            else:
                self._listen(client, seen)
        except (OSError, ssl.SSLError) as e:
            seen.error = str(e)
        finally:
            client.close()
            self.left.set()

    def _listen(self, client: socket.socket, seen: Seen) -> None:
        """Without TLS: say the greeting, answer the first bytes, write down the rest."""
        client.sendall(self._greeting)
        answered = self._silent
        while data := self._receive(client, seen):
            seen.plain += data
            if not answered:
                client.sendall(self._answer)
                answered = True

    def _speak(self, client: socket.socket, seen: Seen, context: ssl.SSLContext) -> None:
        inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(inward, outward, server_side=True)
        answered = False
        while True:
            try:
                if not seen.done:
                    tls.do_handshake()
                    seen.done = True
                    if self._greeting:
                        tls.write(self._greeting)
                data = tls.read(16384)
                seen.plain += data
                if data and not answered:
                    answered = True
                    tls.write(self._answer)
            except ssl.SSLWantReadError:
                self._send(client, outward.read())
                data = self._receive(client, seen)
                if not data:
                    return
                inward.write(data)
            except ssl.SSLError:
                self._send(client, outward.read())  # the alert
                raise
            else:
                self._send(client, outward.read())

    def _send(self, client: socket.socket, data: bytes) -> None:
        if not data:
            return
        for pause, piece in self._shape(data) if self._shape else [(0.0, data)]:
            if pause and self._stop.wait(pause):
                return
            client.sendall(piece)

    def _receive(self, client: socket.socket, seen: Seen) -> bytes:
        """What comes next; empty when the client or this server has ended."""
        while not self._stop.is_set():
            try:
                data = client.recv(16384)
            except TimeoutError:
                continue
            seen.wire += data
            return data
        return b""


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
