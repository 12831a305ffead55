"""The little DER reader that trust needs (X.690 DER, RFC 5280 certificates).

Loops, no recursion: it runs on top of mbedTLS's frames on a stack of 8 KB. Every function takes
a buffer and offsets and raises ValueError for what is malformed; nothing is kept of the buffer.
"""

from micropython import const

_SEQUENCE = const(0x30)
_OID = const(0x06)
_BOOLEAN = const(0x01)
_OCTETS = const(0x04)
_UTC_TIME = const(0x17)
_GENERALIZED_TIME = const(0x18)
_EXTENSIONS = const(0xA3)

_SUBJECT_ALT_NAME = b"\x55\x1d\x11"
DNS_NAME = const(0x82)  # GeneralName, context tags of RFC 5280, 4.2.1.6
IP_ADDRESS = const(0x87)


def element(buf, at, end):
    """The element at `at`: (tag, start of content, end of content)."""
    if end - at < 2:
        raise ValueError("truncated")
    tag = buf[at]
    n = buf[at + 1]
    at += 2
    if n & 128:
        k = n & 127
        if not 0 < k < 4 or at + k > end:
            raise ValueError("bad length")
        n = 0
        for _ in range(k):
            n = n << 8 | buf[at]
            at += 1
    if at + n > end:
        raise ValueError("truncated")
    return tag, at, at + n


def expect(buf, at, end, tag):
    """The content of the element at `at`, which must have this tag: (start, end)."""
    found, start, stop = element(buf, at, end)
    if found != tag:
        raise ValueError("unexpected element")
    return start, stop


class Certificate:
    """Where the parts lie that trust looks at; offsets into the DER it was read from.

    `not_before` and `not_after` are seconds since 1970; `names` is (start, end) of the
    subjectAltName's entries, or None.
    """

    def __init__(self, der):
        start, end = expect(der, 0, len(der), _SEQUENCE)
        at, end = expect(der, start, end, _SEQUENCE)  # tbsCertificate
        tag, start, stop = element(der, at, end)
        if tag == 0xA0:  # version
            at = stop
        for _ in range(3):  # serialNumber, signature, issuer
            at = element(der, at, end)[2]
        start, at = expect(der, at, end, _SEQUENCE)  # validity
        tag, first, second = element(der, start, at)
        self.not_before = when(der, tag, first, second)
        tag, first, second = element(der, second, at)
        self.not_after = when(der, tag, first, second)
        self.names = None
        while at < end:
            tag, start, at = element(der, at, end)
            if tag == _EXTENSIONS:
                self._extensions(der, start, at)

    def _extensions(self, der, at, end):
        at, end = expect(der, at, end, _SEQUENCE)
        while at < end:
            start, at = expect(der, at, end, _SEQUENCE)
            first, start = expect(der, start, at, _OID)
            if der[first:start] != _SUBJECT_ALT_NAME:
                continue
            tag, first, stop = element(der, start, at)
            if tag == _BOOLEAN:  # critical
                tag, first, stop = element(der, stop, at)
            if tag != _OCTETS or self.names:
                raise ValueError("bad subjectAltName")
            self.names = expect(der, first, stop, _SEQUENCE)


def when(der, tag, start, end):
    """A UTCTime or GeneralizedTime (RFC 5280, 4.1.2.5) as seconds since 1970."""
    digits = end - start - 1
    if der[end - 1] != 90 or digits != {_UTC_TIME: 12, _GENERALIZED_TIME: 14}.get(tag):
        raise ValueError("bad time")
    for i in range(start, end - 1):
        if not 48 <= der[i] <= 57:
            raise ValueError("bad time")
    f = [(der[i] - 48) * 10 + der[i + 1] - 48 for i in range(start, end - 1, 2)]
    year = f[0] * 100 + f[1] if digits == 14 else f[0] + (2000 if f[0] < 50 else 1900)
    month, day, hour, minute, second = f[-5:]
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise ValueError("bad time")
    return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second


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
