"""What a vault holds once it is open: fields by tag, and the rules they obey. PROTOCOLS.md 2."""

import struct

from . import x509
from .errors import LimpetError

NAME = 1
PROFILE = 2
ACCOUNT = 3
PASSWORD = 4
KEY = 5
CERTIFICATE = 6
CONTROL = 7
ANCHOR = 8
SERVER = 9
PIN = 10
NETWORK = 11
SEQUENCE = 12
EARLIEST = 13
NO_PINS = 14

PSK = 3
X509 = 4

_LAST = NO_PINS  # unknown above it; from 128 an unknown field is kept and ignored
_OPTIONAL = 128
_REPEATED = (ANCHOR, SERVER, PIN, NETWORK)
_REPEATS = 4
_LENGTHS = {PROFILE: 1, CONTROL: 32, PIN: 32, SEQUENCE: 4, EARLIEST: 8, NO_PINS: 1}
_NAME = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_RESERVED = (b"time", b"fleet", b"kit")


class Record:
    """The fields of an opened box; `wipe` it when its secrets are no longer needed."""

    def __init__(self, fields, generation, vault_id, source, slot):
        self.fields = fields  # a writable view
        self.generation = generation
        self.vault_id = vault_id
        self.source = source
        self.slot = slot

    def one(self, tag):
        """The value (bytes) of the first field of this tag, None when there is none."""
        for found, start, end in walk(self.fields):
            if found == tag:
                return bytes(self.fields[start:end])
        return None

    def all(self, tag):
        """The values of all fields of this tag, in their order."""
        return [bytes(self.fields[a:b]) for found, a, b in walk(self.fields) if found == tag]

    @property
    def sequence(self):
        """Number of the last change in it, 0 when it came by cable."""
        return int.from_bytes(self.one(SEQUENCE) or b"", "big")

    def wipe(self):
        """Overwrite the fields in memory; values that were handed out are not reached."""
        fields = self.fields
        self.fields = b""
        for i in range(len(fields)):
            fields[i] = 0


def encode(*fields):
    """Join (tag, value) pairs: tag u8, length u16, value."""
    return b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)


def walk(fields):
    """Yield (tag, start, end) of each field; ValueError when they do not add up."""
    at = 0
    end = len(fields)
    while at < end:
        if at + 3 > end:
            raise ValueError("fields")
        tag, length = struct.unpack_from(">BH", fields, at)
        at += 3
        if at + length > end:
            raise ValueError("fields")
        yield tag, at, at + length
        at += length


def newer(fields):
    """Whether a field in it must be understood and is not."""
    return any(not 0 < tag <= _LAST and tag < _OPTIONAL for tag, _, _ in walk(fields))


def check(fields):
    """Raise LimpetError BAD_FIELDS unless a device can work with this record."""
    record = Record(fields, 0, b"", 0, 0)
    try:
        counts = bytearray(256)
        for tag, start, end in walk(fields):
            counts[tag] += 1
            most = _REPEATS if tag in _REPEATED else 1
            _require(counts[tag] <= most or tag >= _OPTIONAL, "too many fields %d" % tag)
            _require(0 < tag <= _LAST or tag >= _OPTIONAL, "unknown field %d" % tag)
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
