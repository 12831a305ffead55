"""The little DER reader that trust needs (X.690 DER, RFC 5280 certificates).

Loops, no recursion: it runs on top of mbedTLS's frames on a stack of 8 KB. Every function takes
a buffer and offsets and raises ValueError, for nobody to read, for what is malformed; nothing is
kept of the buffer.
"""

from micropython import const

_BOOLEAN = const(0x01)
_INTEGER = const(0x02)
_BITS = const(0x03)
_OCTETS = const(0x04)
OID = const(0x06)
_UTC_TIME = const(0x17)
_GENERALIZED_TIME = const(0x18)
SEQUENCE = const(0x30)
_VERSION = const(0xA0)
_EXTENSIONS = const(0xA3)
DNS_NAME = const(0x82)  # GeneralName, context tags of RFC 5280, 4.2.1.6
IP_ADDRESS = const(0x87)

# Extensions, RFC 5280, 4.2.1: id-ce is 55 1d, so the last byte says which.
_SUBJECT_ALT_NAME = const(0x11)
_NAME_CONSTRAINTS = const(0x1E)
_EXTENDED_KEY_USAGE = const(0x25)
_SERVER_AUTH = const(b"\x2b\x06\x01\x05\x05\x07\x03\x01")

# sha256, sha384, sha512 with RSA (RFC 8017, A.2.4) and with ECDSA (RFC 5758, 3.2), without the
# last byte, which is one of three in a row.
_RSA_SIGNATURE = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01")
_EC_SIGNATURE = const(b"\x2a\x86\x48\xce\x3d\x04\x03")
_RSA_KEY = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01")
_EC_KEY = const(b"\x2a\x86\x48\xce\x3d\x02\x01")
_P256 = const(b"\x2a\x86\x48\xce\x3d\x03\x01\x07")
_P384 = const(b"\x2b\x81\x04\x00\x22")
_P521 = const(b"\x2b\x81\x04\x00\x23")
_RSA_BITS = const(2048)  # the least that is accepted (NIST SP 800-131A)


def element(buf, at, end):
    """The element at `at`: (tag, start of content, end of content)."""
    if end - at < 2:
        raise ValueError  # truncated
    tag = buf[at]
    n = buf[at + 1]
    at += 2
    if tag & 31 == 31:
        raise ValueError  # long tag
    if n & 128:
        k = n & 127
        if not 0 < k < 4 or at + k > end:
            raise ValueError  # bad length
        n = 0
        for _ in range(k):
            n = n << 8 | buf[at]
            at += 1
    if at + n > end:
        raise ValueError  # truncated
    return tag, at, at + n


def expect(buf, at, end, tag):
    """The content of the element at `at`, which must have this tag: (start, end)."""
    found, start, stop = element(buf, at, end)
    if found != tag:
        raise ValueError  # unexpected element
    return start, stop


class Certificate:
    """Where the parts lie that trust looks at; offsets into the DER it was read from.

    `not_before` and `not_after` are seconds since 1970. (start, end) pairs: `signature` the OID
    of the signature's algorithm, `key` the whole SubjectPublicKeyInfo, `names` the entries of
    subjectAltName and `usage` those of extendedKeyUsage, None where there is no such extension.
    `constrained`: there are name constraints. `self_issued`: issuer and subject are the same.
    """

    def __init__(self, der):
        start, end = expect(der, 0, len(der), SEQUENCE)
        at, stop = expect(der, start, end, SEQUENCE)  # tbsCertificate
        first, end = expect(der, stop, end, SEQUENCE)
        self.signature = expect(der, first, end, OID)
        tag, _, after = element(der, at, stop)
        if tag == _VERSION:
            at = after
        _, at = expect(der, at, stop, _INTEGER)  # serialNumber
        _, at = expect(der, at, stop, SEQUENCE)  # signature, once more
        issuer, issuer_end = expect(der, at, stop, SEQUENCE)
        start, at = expect(der, issuer_end, stop, SEQUENCE)  # validity
        tag, first, second = element(der, start, at)
        self.not_before = when(der, tag, first, second)
        tag, first, second = element(der, second, at)
        self.not_after = when(der, tag, first, second)
        subject, key = expect(der, at, stop, SEQUENCE)
        self.self_issued = der[issuer:issuer_end] == der[subject:key]
        _, at = expect(der, key, stop, SEQUENCE)
        self.key = (key, at)
        self.names = self.usage = None
        self.constrained = False
        while at < stop:
            tag, start, at = element(der, at, stop)
            if tag == _EXTENSIONS:
                self._extensions(der, start, at)

    def _extensions(self, der, at, end):
        at, end = expect(der, at, end, SEQUENCE)
        while at < end:
            start, at = expect(der, at, end, SEQUENCE)
            first, start = expect(der, start, at, OID)
            if start - first != 3 or der[first] != 0x55 or der[first + 1] != 0x1D:
                continue
            kind = der[first + 2]
            tag, first, stop = element(der, start, at)
            if tag == _BOOLEAN:  # critical
                tag, first, stop = element(der, stop, at)
            if tag != _OCTETS:
                raise ValueError  # bad extension
            if kind == _SUBJECT_ALT_NAME:
                if self.names:
                    raise ValueError  # two subjectAltNames
                self.names = expect(der, first, stop, SEQUENCE)
            elif kind == _EXTENDED_KEY_USAGE:
                if self.usage:
                    raise ValueError  # two extendedKeyUsages
                self.usage = expect(der, first, stop, SEQUENCE)
            elif kind == _NAME_CONSTRAINTS:
                self.constrained = True


def strong_hash(der, start, end):
    """Whether a signature's OID names SHA-256, 384 or 512, with RSA (PKCS #1 v1.5) or ECDSA."""
    last = der[end - 1] if end > start else 0
    oid = der[start : end - 1]
    if oid == _RSA_SIGNATURE:
        return 11 <= last <= 13
    return oid == _EC_SIGNATURE and 2 <= last <= 4


def strong_key(der, start, end):
    """Whether a SubjectPublicKeyInfo is RSA of 2048 bits or more, or P-256, P-384 or P-521."""
    at, end = expect(der, start, end, SEQUENCE)
    start, at = expect(der, at, end, SEQUENCE)
    first, start = expect(der, start, at, OID)
    oid = der[first:start]
    if oid == _EC_KEY:
        first, start = expect(der, start, at, OID)
        curve = der[first:start]
        return curve in (_P256, _P384, _P521)
    if oid != _RSA_KEY:
        return False
    start, end = expect(der, at, end, _BITS)
    start, end = expect(der, start + 1, end, SEQUENCE)  # behind the count of unused bits
    start, end = expect(der, start, end, _INTEGER)
    while start < end and not der[start]:
        start += 1
    bits = (end - start) * 8
    high = der[start] if bits else 0
    while bits and not high & 128:
        high <<= 1
        bits -= 1
    return bits >= _RSA_BITS


def for_servers(der, start, end):
    """Whether the entries of an extendedKeyUsage hold server authentication."""
    while start < end:
        first, start = expect(der, start, end, OID)
        if der[first:start] == _SERVER_AUTH:
            return True
    return False


def when(der, tag, start, end):
    """A UTCTime or GeneralizedTime (RFC 5280, 4.1.2.5) as seconds since 1970."""
    digits = end - start - 1
    wanted = 12 if tag == _UTC_TIME else 14 if tag == _GENERALIZED_TIME else 0
    if not wanted or digits != wanted or der[end - 1] != 90:
        raise ValueError  # bad time
    for i in range(start, end - 1):
        if not 48 <= der[i] <= 57:
            raise ValueError  # bad time
    year = _two(der, start)
    if wanted == 14:
        year = year * 100 + _two(der, start + 2)
    else:
        year += 2000 if year < 50 else 1900
    at = end - 11
    month, day = _two(der, at), _two(der, at + 2)
    hour, minute, second = _two(der, at + 4), _two(der, at + 6), _two(der, at + 8)
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise ValueError  # bad time
    return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second


def _two(der, at):
    return der[at] * 10 + der[at + 1] - 528


def days(year, month, day):
    """Days from 1970-01-01 to a date of the Gregorian calendar."""
    if month < 3:  # the year that begins in March has its odd day at the end
        year -= 1
        month += 12
    return (
        year * 365
        + year // 4
        - year // 100
        + year // 400
        + (month * 153 - 457) // 5
        + day
        - 719469
    )
