"""The rules that the fields of a record obey, checked before one is written. PROTOCOLS.md 2."""

import struct

from micropython import const

from . import x509
from .errors import LimpetError
from .record import (
    ACCOUNT,
    ANCHOR,
    CERTIFICATE,
    CONTROL,
    EARLIEST,
    KEY,
    LAST,
    NAME,
    NETWORK,
    NO_PINS,
    OPTIONAL,
    PASSWORD,
    PIN,
    PROFILE,
    PSK,
    SEQUENCE,
    SERVER,
    X509,
    Record,
    walk,
)

_REPEATED = (ANCHOR, SERVER, PIN, NETWORK)
_REPEATS = const(4)
_LENGTHS = {PROFILE: 1, CONTROL: 32, PIN: 32, SEQUENCE: 4, EARLIEST: 8, NO_PINS: 1}
_NAME = const(b"abcdefghijklmnopqrstuvwxyz0123456789-")
_RESERVED = const((b"time", b"fleet", b"kit"))


def encode(*fields):
    """Join (tag, value) pairs: tag u8, length u16, value."""
    return b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)


def check(fields):
    """Raise LimpetError BAD_FIELDS unless a device can work with this record."""
    record = Record(fields, 0, b"", 0, 0)
    try:
        counts = bytearray(256)
        for tag, start, end in walk(fields):
            counts[tag] += 1
            most = _REPEATS if tag in _REPEATED else 1
            _require(counts[tag] <= most or tag >= OPTIONAL, "too many fields %d" % tag)
            _require(0 < tag <= LAST or tag >= OPTIONAL, "unknown field %d" % tag)
            _require(end - start == _LENGTHS.get(tag, end - start), "length of field %d" % tag)
        _require(name_fits(record.one(NAME) or b""), "device name")
        profile = (record.one(PROFILE) or b"\0")[0]
        _require(0 < profile <= X509, "profile")
        _require(0 < len(record.one(ACCOUNT) or b"") <= 64, "account")
        for tag in (KEY, CERTIFICATE) if profile == X509 else (PASSWORD,):
            _require(record.one(tag), "field %d is missing" % tag)
        _require(counts[CONTROL], "control key")
        _require(counts[ANCHOR] or profile == PSK, "no anchor")
        for der in record.all(ANCHOR):
            _require(_is_certificate(der), "an anchor is no certificate")
        _require(counts[SERVER], "no server")
        for server in record.all(SERVER):
            host, _, port = bytes(server).decode().rpartition(":")
            _require(host and 0 < int(port) < 65536, "server")
        for network in record.all(NETWORK):
            n = network[0] if network else 0
            _require(0 < n <= 32 and n + 1 <= len(network) <= n + 65, "network")
    except ValueError:  # also of walk, decode and int
        raise _bad("they do not add up")


def name_fits(name):
    """Whether `name` (bytes) can name a device."""
    if not 3 <= len(name) <= 32 or name[0] == 0x2D or name in _RESERVED:
        return False
    return all(c in _NAME for c in name)


def _is_certificate(der):
    try:
        return bool(x509.Certificate(der).not_before)
    except (LimpetError, ValueError, IndexError):
        return False


def _require(fine, words):
    if not fine:
        raise _bad(words)


def _bad(words):
    return LimpetError("BAD_FIELDS", "the fields of the record are wrong: %s" % words)
