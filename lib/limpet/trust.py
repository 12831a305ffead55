"""Which server is ours: anchors, name, dates, strength, pin or a shared key; words for refusals.

mbedTLS checks the chain. What it lets through or says badly is checked here, in its
verify_callback, before the first byte of CONNECT. The codes are explained in README.md.
"""

import gc
import hashlib

import tls
from micropython import const

from . import clock, names, x509
from .errors import Lost, Untrusted

# Negative, or mbedTLS takes the refusal for a byte count; this one is X509_FATAL_ERROR.
_REFUSE = const(-0x3000)
_LONGEST = const(160)  # bytes of a fact: it may hold what a server sent
_FORWARD_SECRET = const(("TLS1-3-", "TLS-ECDHE-ECDSA-", "TLS-ECDHE-RSA-"))
_SHARED = const(("TLS-ECDHE-PSK-", "TLS-PSK-"))

_UNREADABLE = const(("MALFORMED", "a certificate"))
_NO_MEMORY = const(("MEMORY",))


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
        self.name = self.host.lower().encode()
        self.address = names.address(self.name)
        self.pins = pins
        self.psk = psk
        self.client = client
        self.now = now
        self._begin()
        context = self._context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        _limit_suites(context, psk)
        if psk:
            if not hasattr(context, "psk_key"):
                raise Untrusted("PSK", "this firmware has none")
            context.psk_identity, context.psk_key = psk
            return
        try:
            for der in anchors:
                context.load_verify_locations(der)
            if client:
                context.load_cert_chain(*client)
        except (ValueError, OSError) as e:
            raise Untrusted("ANCHOR", plain(str(e)))
        context.verify_callback = self._check

    def _begin(self):
        self.why = None  # (code, facts ...) of the first refusal
        self._pinned = not self.pins
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
        if self.why == _NO_MEMORY:
            return Lost(*_NO_MEMORY)
        if self.why:
            return Untrusted(*self.why)
        try:
            from .faults import of_tls

            return of_tls(error, self.psk, self.client and self.server_ends)
        except MemoryError:
            return Lost(*_NO_MEMORY)

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
        now = self.now()
        if now < found.not_before:
            return "CLOCK", clock.date(now) + " here", "valid from " + clock.date(found.not_before)
        ends = found.not_after
        if now > ends:
            return "EXPIRED", clock.date(now) + " here", "valid to " + clock.date(ends)
        if not x509.strong_key(der, *found.key):
            return "WEAK", "a key below RSA-2048 and P-256"
        # An anchor is believed for itself; what it is signed with proves nothing.
        if not (depth and found.self_issued) and not x509.strong_hash(der, *found.signature):
            return "WEAK", "signed with less than SHA-256"
        if found.constrained:
            return ("CONSTRAINTS",)
        if found.usage and not x509.for_servers(der, *found.usage):
            return "USAGE", "no serverAuth"
        if not self._pinned:
            key, end = found.key
            self._pinned = hashlib.sha256(der[key:end]).digest() in self.pins
        if not self.anchor_ends:
            self.chain_ends = self.anchor_ends = ends
        self.chain_ends = min(ends, self.chain_ends)
        if depth:
            return None
        why = self._look_for_name(der, found.names)
        if not why and not self._pinned:
            why = ("PIN",)
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
                    if not self.address and names.matches(name, self.name):
                        return None
                    if len(seen) < 3:
                        seen.append(name[:40])
                elif tag == x509.IP_ADDRESS and der[start:at] == self.address:
                    return None
        return "NAME", plain(b", ".join(seen)) or "no name", "this device dials " + self.host


def _limit_suites(context, psk):
    """Offer forward-secret suites only, or those of a shared key, where the port can choose."""
    if hasattr(context, "set_ciphers"):
        kinds = _SHARED if psk else _FORWARD_SECRET
        known = context.get_ciphers()
        suites = [suite for kind in kinds for suite in known if suite.startswith(kind)]
        if suites:
            context.set_ciphers(suites)


def plain(text):
    """One line of printable ASCII that is not too long: it may hold what a server sent."""
    if isinstance(text, str):
        text = text.strip().replace("\n", "; ").encode()
    return bytes([c if 32 <= c < 127 else 63 for c in text[:_LONGEST]]).decode()


gc.collect()  # what was left over from loading is room for the next module
