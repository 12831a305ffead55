"""One connection as a server sees it: TLS from memory buffers, and a record of all that came.

The buffers let a server's own bytes be dripped, cut or damaged on their way; what a client sends
is kept twice, as it came over the wire and as it was meant.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

TICK_S = 0.05
_SIZE = 16384
_CONNECT = 0x10
_NAME_FLAG, _WILL_FLAG = 0x80, 0x04

# What a server's bytes become on their way: pieces, and the seconds before each.
Shape = Callable[[bytes], list[tuple[float, bytes]]]
T = TypeVar("T")


@dataclass
class Seen:
    """One connection: `wire` as it came, `plain` what TLS made of it, `done` a handshake ended.

    `address` is the client's, `gone` says that the connection has ended.
    """

    address: str = ""
    wire: bytearray = field(default_factory=bytearray)
    plain: bytearray = field(default_factory=bytearray)
    done: bool = False
    gone: bool = False
    error: str = ""

    def holds(self, secret: bytes) -> bool:
        """Whether any four bytes in a row of `secret` arrived, in clear or inside TLS."""
        return any(
            secret[i : i + 4] in self.wire or secret[i : i + 4] in self.plain
            for i in range(max(1, len(secret) - 3))
        )

    @property
    def login(self) -> tuple[str, str] | None:
        """Client id and user name of its CONNECT; None when none has come whole."""
        try:
            return _login(bytes(self.plain))
        except (IndexError, ValueError):
            return None


def _login(data: bytes) -> tuple[str, str] | None:
    if not data or data[0] & 0xF0 != _CONNECT:
        return None
    at = 1
    while data[at] & 0x80:
        at += 1
    name, at = _text(data, at + 1)
    if name not in (b"MQTT", b"MQIsdp"):
        return None
    version, flags = data[at], data[at + 1]
    at += 4  # version, flags, keep-alive
    if version == 5:
        at += 1 + data[at]  # properties, shorter than 128 bytes
    client, at = _text(data, at)
    if flags & _WILL_FLAG:
        if version == 5:
            at += 1 + data[at]
        at = _text(data, _text(data, at)[1])[1]
    user = _text(data, at)[0] if flags & _NAME_FLAG else b""
    return client.decode(), user.decode()


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    if end > len(data):
        raise IndexError
    return data[at + 2 : end], end


class Stream:
    """The bytes of one client; without a `context` there is no TLS.

    What a call waits for ends with the event `stop`: then it is as if the client had gone.
    """

    def __init__(
        self,
        client: socket.socket,
        seen: Seen,
        stop: threading.Event,
        context: ssl.SSLContext | None = None,
        shape: Shape | None = None,
    ) -> None:
        client.settimeout(TICK_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seen = seen
        self._client = client
        self._stop = stop
        self._shape = shape
        self._inward, self._outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context:
            self._tls = context.wrap_bio(self._inward, self._outward, server_side=True)

    def open(self) -> bool:
        """The handshake; False when the client goes. Raises `ssl.SSLError` when it refuses."""
        tls = self._tls
        if tls is None:
            return True

        def shake() -> bool:
            tls.do_handshake()
            return True

        self.seen.done = self._turn(shake, False)
        return self.seen.done

    def recv(self) -> bytes:
        """What the client says next; empty at its end."""
        tls = self._tls
        if tls is None:
            data = self._receive()
        else:
            try:
                data = self._turn(lambda: tls.read(_SIZE), b"")
            except ssl.SSLZeroReturnError:
                data = b""
        self.seen.plain += data
        return data

    def send(self, data: bytes) -> None:
        """Say it, in one TLS record where it fits."""
        if self._tls and data:
            self._tls.write(data)
            self._flush()
        else:
            self._put(data)

    def pause(self, seconds: float) -> None:
        """Say nothing for so long."""
        self._stop.wait(seconds)

    def end(self, reset: bool = False) -> None:
        """Close the connection; with RST, what the client has not read yet is lost."""
        with contextlib.suppress(OSError):
            if reset:
                linger = struct.pack("ii", 1, 0)
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif self._tls:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._flush()
            self._client.close()

    def _turn(self, step: Callable[[], T], at_end: T) -> T:
        """Let TLS do a step, with as many bytes of the client as it asks for."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._receive()
                if not data:
                    return at_end
                self._inward.write(data)
            finally:
                self._flush()  # also the alert of a failure

    def _flush(self) -> None:
        self._put(self._outward.read())

    def _put(self, data: bytes) -> None:
        if not data:
            return
        for pause, piece in self._shape(data) if self._shape else [(0.0, data)]:
            if pause and self._stop.wait(pause):
                return
            self._client.sendall(piece)

    def _receive(self) -> bytes:
        """What comes over the wire next; empty when the client or this server has ended."""
        while not self._stop.is_set():
            try:
                data = self._client.recv(_SIZE)
            except TimeoutError:
                continue
            self.seen.wire += data
            return data
        return b""
