"""What a server does with a client after the handshake: one behaviour a connection.

A behaviour is a function of a `Peer`. `serve` is the right one; the others misbehave on purpose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .stream import Stream

ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK, no session, code 0
CONNECT, PUBLISH, SUBSCRIBE, PING, DISCONNECT = 0x10, 0x30, 0x82, 0xC0, 0xE0
Behaviour = Callable[["Peer"], None]
Message = tuple[str, bytes, bool]  # topic, payload, whether it is a repetition


class Peer:
    """One client, after its handshake. `published` is where its messages are kept."""

    def __init__(self, stream: Stream, published: list[Message]) -> None:
        self.stream = stream
        self.published = published
        self.filters: list[str] = []  # that it has subscribed to
        self._left = b""

    def read(self) -> tuple[int, bytes] | None:
        """The next packet as (first byte, body); None at the end."""
        while True:
            buf = self._left
            n = shift = 0
            for i, byte in enumerate(buf[1:5]):
                n |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    if len(buf) >= i + 2 + n:
                        self._left = buf[i + 2 + n :]
                        return buf[0], buf[i + 2 : i + 2 + n]
                    break
            more = self.stream.recv()
            if not more:
                return None
            self._left += more

    def send(self, data: bytes, slice: int | None = None, pace: float = 0.0) -> None:
        """Send, in TLS records of `slice` bytes, `pace` seconds apart."""
        slice = slice or max(1, len(data))
        for at in range(0, len(data), slice):
            self.stream.send(data[at : at + slice])
            if pace:
                self.stream.pause(pace)

    def end(self, reset: bool = False) -> None:
        """Close the connection; with RST, what the client has not read yet is lost."""
        self.stream.end(reset)

    def wait(self) -> None:
        """Say nothing until the client goes."""
        while self.stream.recv():
            pass


def message(topic: str, payload: bytes, retained: bool = False) -> bytes:
    """A PUBLISH of QoS 0."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + payload
    size, n = b"", len(body)
    while n > 127:
        size += bytes([n & 127 | 128])
        n >>= 7
    return bytes([PUBLISH | retained]) + size + bytes([n]) + body


def serve(
    peer: Peer,
    lose_pubacks: int = 0,
    slice: int | None = None,
    pace: float = 0.0,
    then: Behaviour | None = None,
    subscribed: Behaviour | None = None,
) -> None:
    """A small correct server; `then(peer)` once the client has published, that is, is online.

    `subscribed(peer)` is called after each SUBACK. The first `lose_pubacks` acknowledgements are
    not sent; CONNACK comes at `pace`.
    """
    peer.read()
    peer.send(ACCEPTED, 1 if pace else slice, pace)
    while packet := peer.read():
        op, body = packet
        if op == SUBSCRIBE:
            codes, at = b"", 2
            while at < len(body):
                n = int.from_bytes(body[at : at + 2], "big")
                peer.filters.append(body[at + 2 : at + 2 + n].decode("utf-8", "replace"))
                at += 3 + n
                codes += b"\x01"
            peer.send(bytes((0x90, 2 + len(codes))) + body[:2] + codes, slice)
            if subscribed:
                subscribed(peer)
        elif op & 0xF0 == PUBLISH:
            n = 2 + int.from_bytes(body[:2], "big")
            qos = op >> 1 & 3
            topic = body[2:n].decode("utf-8", "replace")
            peer.published.append((topic, body[n + 2 :] if qos else body[n:], bool(op & 8)))
            if then:
                then(peer)
            elif qos and lose_pubacks and not topic.endswith("/ack"):
                lose_pubacks -= 1
            elif qos:
                peer.send(b"\x40\x02" + body[n : n + 2], slice)
        elif op == PING:
            peer.send(b"\xd0\0", slice)
        elif op == DISCONNECT:
            break


def drip_connack(peer: Peer) -> None:
    """Serves, but for CONNACK's bytes 150 ms apart."""
    serve(peer, pace=0.15)


def connack(code: int) -> Behaviour:
    """Answers CONNECT with this code, then ends."""

    def behave(peer: Peer) -> None:
        peer.read()
        peer.send(bytes((0x20, 2, 0, code)))
        peer.end()

    return behave


def after_connect(reset: bool) -> Behaviour:
    """Ends the connection when CONNECT has come, without an answer."""

    def behave(peer: Peer) -> None:
        peer.read()
        peer.end(reset)

    return behave


def says(
    data: bytes, ends: bool = False, slice: int | None = None, pace: float = 0.0
) -> Behaviour:
    """Serves until the client is online, then says `data`, and ends if told to."""

    def then(peer: Peer) -> None:
        peer.send(data, slice, pace)
        if ends:
            peer.end()
        else:
            peer.wait()

    return lambda peer: serve(peer, then=then)


def answers(data: bytes, pace: float = 0.0) -> Behaviour:
    """Answers CONNECT with these bytes, one at a time when paced; then serves no more."""

    def behave(peer: Peer) -> None:
        peer.read()
        peer.send(data, 1 if pace else None, pace)
        peer.wait()

    return behave


def hold(came: threading.Event) -> Behaviour:
    """Sets the event `came` when CONNECT has come, and never answers."""

    def behave(peer: Peer) -> None:
        peer.read()
        came.set()
        peer.wait()

    return behave


def writes_down(answer: bytes = ACCEPTED, greeting: bytes = b"") -> Behaviour:
    """Says `greeting`, answers whatever comes first with `answer`, and listens."""

    def behave(peer: Peer) -> None:
        peer.send(greeting)
        if peer.stream.recv():
            peer.send(answer)
            peer.wait()

    return behave
