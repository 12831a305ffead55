"""What a server shows to a client that says nothing: addresses, TLS versions, suite, chain.

The chain is read from the bytes of a TLS 1.2 handshake, where it travels in clear: so it is seen
as it was sent, in its order, also when no library would accept it.
"""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

TIMEOUT_S = 10.0
# What the firmware offers in every certificate profile (lib/limpet/trust.py, forward-secret
# suites only; asked of MicroPython 1.28's tls.SSLContext.get_ciphers), in OpenSSL's names.
SUITES = ":".join(
    f"ECDHE-{key}-{suite}"
    for suite in (
        *("AES256-GCM-SHA384", "AES128-GCM-SHA256"),
        *("AES256-SHA384", "AES128-SHA256", "AES256-SHA", "AES128-SHA"),
    )
    for key in ("ECDSA", "RSA")
)
_OLD, _BOARD, _NEW = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
_HANDSHAKE = 22
_SERVER_HELLO, _CERTIFICATE, _CERTIFICATE_REQUEST = 2, 11, 13  # RFC 5246, 7.4


@dataclass
class Look:
    """What was seen. `trouble` is (code, words) where looking came to an end.

    `addresses` are DNS's answers, `reached` the one that was connected to.
    `suite` is the one that a board would get, None when there is none. `versions` are those that
    the server speaks. `chain` is in the order sent, `size` the bytes of that message.
    `asks`: it wants a certificate of the device, and ends the handshake of one without.
    """

    host: str
    port: int
    addresses: list[str] = field(default_factory=list)
    reached: str = ""
    trouble: tuple[str, str] | None = None
    versions: list[str] = field(default_factory=list)
    suite: str | None = None
    chain: list[x509.Certificate] = field(default_factory=list)
    size: int = 0
    asks: bool = False


@dataclass
class _Try:
    """One handshake: `received` from the server, `version` and `suite` when it was finished.

    `silent`: nothing came within the time. `asked`: it was broken off for want of a certificate.
    """

    received: bytes = b""
    silent: bool = False
    version: str | None = None
    suite: str | None = None
    asked: bool = False


def look(host: str, port: int) -> Look:
    """Look at a server; never raises for what it does or is."""
    seen = Look(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        reason = getattr(e, "strerror", None) or "not a name"
        seen.trouble = ("DNS", f"{host} has no address: {reason}")
        return seen
    seen.addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    try:
        first = _try(seen, SUITES, _BOARD, _BOARD)
        if first.received and not 20 <= first.received[0] <= 23:
            seen.trouble = ("NO_TLS", "it answers, but not in TLS")
            return seen
        if first.silent:
            seen.trouble = ("NO_TLS", "it takes the connection, but says nothing to a TLS hello")
            return seen
        seen.suite = first.suite
        shown = first
        if not first.suite:
            shown = _try(seen, "ALL:COMPLEMENTOFALL", _OLD, _BOARD)
        newest = _try(seen, SUITES, _NEW, _NEW)
    except OSError as e:
        reason = e.strerror or "no answer in time"
        seen.trouble = ("CONNECT", f"port {port} of {host} cannot be reached: {reason}")
        return seen
    seen.versions = [one.version for one in (shown, newest) if one.version]
    if not (shown.received or newest.received):
        seen.trouble = ("NO_TLS", "it ends the connection at a TLS hello")
        return seen
    seen.size, ders = _sent(shown.received)
    seen.asks = shown.asked
    for der in ders:
        try:
            one = x509.load_der_x509_certificate(der)
            str((one.subject, one.issuer, one.public_key(), list(one.extensions)))  # read lazily
        except (ValueError, UnsupportedAlgorithm):
            seen.trouble = (
                "MALFORMED",
                f"certificate {len(seen.chain) + 1} of the chain cannot be read",
            )
            break
        seen.chain.append(one)
    return seen


def _try(seen: Look, suites: str, low: ssl.TLSVersion, high: ssl.TLSVersion) -> _Try:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # looked at, not trusted: nothing is said to it
    context.set_ciphers(suites + ":@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old versions are what is asked about
        context.minimum_version, context.maximum_version = low, high
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(inward, outward, server_hostname=seen.host)
    done, end = _Try(), time.monotonic() + TIMEOUT_S
    with socket.create_connection((seen.host, seen.port), TIMEOUT_S) as link:
        seen.reached = str(link.getpeername()[0])
        while time.monotonic() < end:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                try:
                    link.sendall(outward.read())
                    data = link.recv(65536)
                except OSError as e:
                    done.silent = isinstance(e, TimeoutError) and not done.received
                    break
                if not data:
                    break
                done.received += data
                inward.write(data)
            except (ssl.SSLError, ValueError):
                break
            else:
                cipher = tls.cipher()
                done.version, done.suite = tls.version(), cipher[0] if cipher else None
                break
    if not done.version:
        _from_hello(done, context)
    return done


def _from_hello(done: _Try, context: ssl.SSLContext) -> None:
    """Version and suite where a server that wants a certificate broke off: it had chosen them."""
    said = dict(_messages(done.received))
    hello = said.get(_SERVER_HELLO, b"")
    if _CERTIFICATE_REQUEST not in said or hello[:2] != b"\3\3" or len(hello) < 38:
        return
    at = 35 + hello[34]
    number = int.from_bytes(hello[at : at + 2], "big")
    names = {one["id"] & 0xFFFF: one["name"] for one in context.get_ciphers()}
    done.version, done.suite, done.asked = "TLSv1.2", names.get(number), True


def _sent(received: bytes) -> tuple[int, list[bytes]]:
    """Length of the Certificate message and the certificates in it (RFC 5246, 7.4.2)."""
    body = dict(_messages(received)).get(_CERTIFICATE, b"")
    found, at = [], 3
    while at + 3 <= len(body):
        n = int.from_bytes(body[at : at + 3], "big")
        found.append(body[at + 3 : at + 3 + n])
        at += 3 + n
    return len(body), found


def _messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of the handshake messages that travel in clear (RFC 5246, 7.4)."""
    stream, at = b"", 0
    while received[at : at + 1] == bytes([_HANDSHAKE]):
        length = int.from_bytes(received[at + 3 : at + 5], "big")
        stream += received[at + 5 : at + 5 + length]
        at += 5 + length
    at = 0
    while at + 4 <= len(stream):
        length = int.from_bytes(stream[at + 1 : at + 4], "big")
        yield stream[at], stream[at + 4 : at + 4 + length]
        at += 4 + length
