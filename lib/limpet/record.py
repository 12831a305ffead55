"""What a vault holds once it is open: fields by tag, and the rules they obey. PROTOCOLS.md 2."""

import struct

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

LAST = NO_PINS  # unknown above it; from 128 an unknown field is kept and ignored
OPTIONAL = 128


class Record:
    """The fields of an opened box; `wipe` it when its secrets are no longer needed."""

    def __init__(self, fields, generation, vault_id, source, slot):
        self.fields = fields  # writable
        self.generation = generation
        self.vault_id = vault_id
        self.source = source
        self.slot = slot
        self.pending = False  # has yet to be confirmed by a login

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


def walk(fields):
    """Yield (tag, start, end) of each field; ValueError when they do not add up."""
    at = 0
    end = len(fields)
    while at < end:
        if at + 3 > end:
            raise ValueError
        tag, length = struct.unpack_from(">BH", fields, at)
        at += 3
        if at + length > end:
            raise ValueError
        yield tag, at, at + length
        at += length


def newer(fields):
    """Whether a field in it must be understood and is not."""
    return any(not 0 < tag <= LAST and tag < OPTIONAL for tag, _, _ in walk(fields))
