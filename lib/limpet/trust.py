"""Which server is ours: anchors, name, dates, strength, pin or a shared key; words for refusals.

mbedTLS checks the chain. What it lets through or says badly is checked here, in its
verify_callback, before the first byte of CONNECT. The codes are explained in README.md.
"""

import hashlib

import tls
from micropython import const

from . import clock, names, x509
from .errors import Lost, Untrusted

# Negative, or mbedTLS takes the refusal for a byte count; this one is X509_FATAL_ERROR.
_REFUSE = const(-0x3000)
# mbedTLS error ranges that mean "the certificate" (x509.h -0x2080 to -0x3000, and the TLS
# codes for a bad or missing one); negative OSError numbers of a TLS call only.
_X509_LOW = const(0x2080)
_X509_HIGH = const(0x3000)
_X509_ALLOC_FAILED = const(0x2880)
_BAD_CERTIFICATE = const(0x7A00)
_FATAL_ALERT = const(0x7780)
_LONGEST = const(200)  # bytes of a reason: it is shown, logged, and told at the next login
_FORWARD_SECRET = ("TLS1-3-", "TLS-ECDHE-ECDSA-", "TLS-ECDHE-RSA-")
_SHARED = ("TLS-ECDHE-PSK-", "TLS-PSK-")

# What mbedTLS says of a certificate (library/x509_crt.c), and what we say.
_FAULTS = (
    (
        "not correctly signed",
        "SIGNATURE",
        "the server's certificate is not signed by this device's anchor: another server, "
        "or one with a new CA (limpet anchor add)",
    ),
    ("in the future", "CLOCK", "the server's certificate is not valid yet by this board's clock"),
    ("expired", "EXPIRED", "the server's certificate has ended: renew it"),
    ("expected CN", "NAME", "the server's certificate is for another name"),
    ("unacceptable", "WEAK", "a certificate of the server has a weak key or hash"),
    ("Usage", "USAGE", "a certificate of the server is not made for this use"),
)
_UNREADABLE = (
    "MALFORMED",
    "a certificate of the server cannot be read: make a new one (limpet doctor names the fault)",
)
_NO_MEMORY = ("MEMORY", "no memory to check the server's certificate")


class Trust:
    """Verification for one server, by certificates or by a shared key.

    `host` is the name or address that is dialled. `anchors` are CA certificates, DER; `pins`
    SHA-256 values of a SubjectPublicKeyInfo, one of which must be in the chain; `psk` is
    (identity, key) and takes the place of all certificates; `client` is this device's own
    (certificate, key), DER. `now` tells seconds since 1970. Raises Untrusted for what this
    firmware cannot load.
    """

    def __init__(self, anchors, host, pins=(), psk=None, client=None, now=clock.now):
        self.host = host.strip("[]").rstrip(".")
        self._name = self.host.lower().encode()
        self._address = names.address(self._name)
        self._pins = pins
        self._psk = psk
        self._client = client
        self._now = now
        self._begin()
        context = self._context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        _limit_suites(context, psk)
        if psk:
            if not hasattr(context, "psk_key"):
                raise Untrusted("PSK", "this firmware has no TLS-PSK: it needs MicroPython 1.29")
            context.psk_identity, context.psk_key = psk
            return
        try:
            for der in anchors:
                context.load_verify_locations(der)
            if client:
                context.load_cert_chain(*client)
        except (ValueError, OSError) as e:
            raise Untrusted(
                "ANCHOR", _plain("a certificate or key in the vault is broken: %s" % e)
            )
        context.verify_callback = self._check

    def _begin(self):
        self.why = None  # (code, words) of the first refusal
        self._pinned = not self._pins
        self.chain_ends = 0  # earliest notAfter of the chain, s since 1970
        self.anchor_ends = 0  # that of its anchor
        self.server_ends = 0  # that of the server's certificate, once it was found right

    def wrap(self, raw):
        """A TLS stream on a connected socket; its handshake runs with the first write."""
        self._begin()
        return self._context.wrap_socket(
            raw, server_hostname=self.host, do_handshake_on_connect=False
        )

    def failure(self, error):
        """The LimpetError for what a TLS call raised; our own reason comes first."""
        if self.why is _NO_MEMORY:
            return Lost(*_NO_MEMORY)
        if self.why:
            return Untrusted(*self.why)
        text = _plain(str(error))
        if isinstance(error, ValueError):  # mbedTLS gives certificate faults as texts
            for fault, code, words in _FAULTS:
                if fault in text:
                    return Untrusted(code, words)
            return Untrusted("CERTIFICATE", text)
        code = error.args[0] if error.args else 0
        code = -code if isinstance(code, int) else 0
        if code == _X509_ALLOC_FAILED:
            return Lost(*_NO_MEMORY)
        if _X509_LOW <= code <= _X509_HIGH or code == _BAD_CERTIFICATE:
            return Untrusted(
                "CERTIFICATE", _plain("the server's certificate was refused: " + text)
            )
        if code == _FATAL_ALERT and self._psk:
            return Untrusted(
                "PSK", "the server does not know this device's identity, or has another key for it"
            )
        if code == _FATAL_ALERT and self._client and self.server_ends:
            return Lost(
                "CLIENT_CERTIFICATE", "the server does not take this device's own certificate"
            )
        return Lost("TLS", _plain("the TLS handshake failed: " + text))

    def _check(self, der, depth):
        # `der` lies in memory that mbedTLS frees: nothing of it may be kept. An exception here
        # would jump through mbedTLS's frames and leak; whatever happens ends in a number.
        if not self.why:
            try:
                self.why = self._look(der, depth)
            except MemoryError:
                self.why = _NO_MEMORY
            except BaseException:
                self.why = _UNREADABLE
        return _REFUSE if self.why else 0

    def _look(self, der, depth):
        """Why this certificate of the chain will not do, or None. The anchor comes first."""
        found = x509.Certificate(der)
        now = self._now()
        if now < found.not_before:
            return (
                "CLOCK",
                "this board's clock says %s, the server's certificate begins on %s: the time is "
                "not known yet (NTP), or wrong" % (clock.date(now), clock.date(found.not_before)),
            )
        ends = found.not_after
        if now > ends:
            return (
                "EXPIRED",
                "a certificate of the server ended on %s, this board's clock says %s: renew it"
                % (clock.date(ends), clock.date(now)),
            )
        if not x509.strong_key(der, *found.key):
            return (
                "WEAK",
                "a key of the server's chain is below RSA-2048 and P-256: make it anew",
            )
        # An anchor is believed for itself; what it is signed with proves nothing.
        if not (depth and found.self_issued) and not x509.strong_hash(der, *found.signature):
            return ("WEAK", "a certificate of the server is signed with less than SHA-256")
        if found.constrained:
            return (
                "CONSTRAINTS",
                "a CA of the server has name constraints, which this device cannot check: use a "
                "CA without",
            )
        if found.usage and not x509.for_servers(der, *found.usage):
            return ("USAGE", "a certificate of the server is not for servers (no serverAuth)")
        if not self._pinned:
            key, end = found.key
            self._pinned = hashlib.sha256(der[key:end]).digest() in self._pins
        if not self.anchor_ends:
            self.chain_ends = self.anchor_ends = ends
        self.chain_ends = min(ends, self.chain_ends)
        if depth:
            return None
        why = self._look_for_name(der, found.names)
        if not why and not self._pinned:
            why = (
                "PIN",
                "no key of the server's chain is one that this device was told to expect",
            )
        if not why:
            self.server_ends = ends
        return why

    def _look_for_name(self, der, entries):
        seen = []
        if entries:
            at, end = entries
            while at < end:
                tag, start, at = x509.element(der, at, end)
                if tag == x509.DNS_NAME:
                    name = bytes(der[start:at]).lower()
                    if not self._address and names.matches(name, self._name):
                        return None
                    if len(seen) < 3:
                        seen.append(name[:40])
                elif tag == x509.IP_ADDRESS and der[start:at] == self._address:
                    return None
        return (
            "NAME",
            _plain(
                "the server's certificate is for %s, this device expects %s: put that name into it"
                % (_plain(b", ".join(seen)) or "no name", self.host)
            ),
        )


def _limit_suites(context, psk):
    """Offer forward-secret suites only, or those of a shared key, where the port can choose."""
    if hasattr(context, "set_ciphers"):
        kinds = _SHARED if psk else _FORWARD_SECRET
        known = context.get_ciphers()
        suites = [suite for kind in kinds for suite in known if suite.startswith(kind)]
        if suites:
            context.set_ciphers(suites)


def _plain(text):
    """One line of printable ASCII that is not too long: it may hold what a server sent."""
    if isinstance(text, str):
        text = text.strip().replace("\n", "; ").encode()
    return bytes([c if 32 <= c < 127 else 63 for c in text[:_LONGEST]]).decode()
