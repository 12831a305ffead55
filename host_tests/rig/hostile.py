"""A TLS MQTT server that behaves, or misbehaves on purpose, one behaviour a connection."""

import contextlib
import socket
import ssl
import struct
import threading
import time
from types import SimpleNamespace

import pytest
from limpet_kit.broker import settings

__all__ = ["hostile_factory"]


class Peer:
    """One client, after its TLS handshake."""

    def __init__(self, server, stream):
        self.server = server
        self.stream = stream
        self._left = b""

    def read(self):
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
            more = self.stream.recv(65536)
            if not more:
                return None
            self._left += more

    def send(self, data, slice=None, pace=0.0):
        """Send, in TLS records of `slice` bytes."""
        slice = slice or max(1, len(data))
        for at in range(0, len(data), slice):
            self.stream.sendall(data[at : at + slice])
            if pace:
                time.sleep(pace)  # the behaviour itself, not a wait of the test

    def end(self, reset=False):
        """Close the connection; with RST, what the client has not read yet is lost."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with contextlib.suppress(OSError):
            self.stream.close()

    def wait(self):
        """Say nothing until the client goes."""
        while self.stream.recv(65536):
            pass


def serve(peer, lose_pubacks=0, slice=None, pace=0.0, then=None):
    """A small correct server; `then(peer)` once the client has published, that is, is online. The
    first `lose_pubacks` acknowledgements are not sent; CONNACK comes at `pace`."""
    peer.read()
    peer.send(b"\x20\x02\0\0", 1 if pace else slice, pace)
    while packet := peer.read():
        op, body = packet
        if op == 0x82:
            codes, at = b"", 2
            while at < len(body):
                at += 3 + int.from_bytes(body[at : at + 2], "big")
                codes += b"\x01"
            peer.send(bytes((0x90, 2 + len(codes))) + body[:2] + codes, slice)
        elif op & 0xF0 == 0x30:
            n = 2 + int.from_bytes(body[:2], "big")
            qos = op >> 1 & 3
            payload = body[n + 2 :] if qos else body[n:]
            peer.server.published.append((body[2:n].decode(), payload, bool(op & 8)))
            if then:
                then(peer)
            elif qos and lose_pubacks and not body[2:n].endswith(b"/ack"):
                lose_pubacks -= 1
            elif qos:
                peer.send(b"\x40\x02" + body[n : n + 2], slice)
        elif op == 0xC0:
            peer.send(b"\xd0\0", slice)
        elif op == 0xE0:
            break


def drip_connack(peer):
    """Serves, but for CONNACK's bytes 150 ms apart: more than the patience of device/warp.py, so
    a second each for the device."""
    serve(peer, pace=0.15)


def connack(code):
    """Answers CONNECT with this code, then ends."""

    def behave(peer):
        peer.read()
        peer.send(bytes((0x20, 2, 0, code)))
        peer.end()

    return behave


def after_connect(reset):
    """Ends the connection when CONNECT has come, without an answer."""

    def behave(peer):
        peer.read()
        peer.end(reset)

    return behave


def says(data, ends=False, slice=None, pace=0.0):
    """Serves until the client is online, then says `data`, and ends if told to."""

    def then(peer):
        peer.send(data, slice, pace)
        if ends:
            peer.end()
        else:
            peer.wait()

    def behave(peer):
        serve(peer, then=then)

    return behave


def answers(data, pace=0.0):
    """Answers CONNECT with these bytes, one at a time when paced; then serves no more."""

    def behave(peer):
        peer.read()
        peer.send(data, 1 if pace else None, pace)
        peer.wait()

    return behave


def hold(came):
    """Sets the event `came` when CONNECT has come, and never answers."""

    def behave(peer):
        peer.read()
        came.set()
        peer.wait()

    return behave


class Hostile:
    """The server. `behaviours` for one connection after the other; the last one stays.

    `connections` counts them, `published` has the messages (topic, payload, dup).
    """

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.settings = settings.create(folder, ["localhost"], port, "mosquitto")
        self.behaviours = [serve]
        self.connections = 0
        self.published = []
        self.show(folder / "server.crt", folder / "server.key")
        self._listener = socket.create_server(("127.0.0.1", port), backlog=50)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def broker(self):
        """What a Device wants to know."""
        return SimpleNamespace(settings=self.settings)

    def show(self, certificate, key):
        """Prove itself with these files (PEM) from the next connection on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._context = context

    def close(self):
        """Accept nobody any more."""
        self._listener.close()

    def _accept(self):
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            behave = self.behaviours[min(self.connections, len(self.behaviours) - 1)]
            self.connections += 1
            threading.Thread(target=self._run, args=(raw, behave), daemon=True).start()

    def _run(self, raw, behave):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), raw:
            stream = self._context.wrap_socket(raw, server_side=True)
            with stream:
                behave(Peer(self, stream))


@pytest.fixture
def hostile_factory(tmp_path):
    """`hostile_factory(*behaviours)` -> Hostile, listening."""
    made = []

    def factory(*behaviours):
        server = Hostile(tmp_path / f"hostile-{len(made)}")
        server.behaviours = list(behaviours) or [serve]
        made.append(server)
        return server

    yield factory
    for server in made:
        server.close()
