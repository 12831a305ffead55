"""Which server is ours: the anchors, the name and the dates, and words for every refusal.

mbedTLS checks the chain. What it lets through or says badly is checked here, in its
verify_callback, before the first byte of CONNECT: a name must stand in subjectAltName (mbedTLS
falls back to the common name), and dates are judged by this board's clock, in words.
"""

import tls
from micropython import const

from . import clock, x509
from .errors import Lost, Untrusted

# Negative, or mbedTLS takes the refusal for a byte count; this one is X509_FATAL_ERROR.
_REFUSE = const(-0x3000)
# mbedTLS error ranges that mean "the certificate" (x509.h -0x2080 to -0x3000, and the TLS
# codes for a bad or missing one); negative OSError numbers of a TLS call only.
_X509_LOW = const(0x2080)
_X509_HIGH = const(0x3000)
_BAD_CERTIFICATE = const(0x7A00)

_SIGNATURE = (
    "the server's certificate is not signed by this device's anchor: another server, or a new CA"
)


class Trust:
    """Verification for one server name. `anchors` are CA certificates, DER."""

    def __init__(self, anchors, host):
        self.host = host
        self._name = host.lower().encode()
        self.why = None  # (code, words) of the last refusal
        context = self._context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        context.verify_mode = tls.CERT_REQUIRED
        for der in anchors:
            context.load_verify_locations(der)
        context.verify_callback = self._check

    def wrap(self, raw):
        """A TLS stream on a connected socket; its handshake runs with the first write."""
        self.why = None
        return self._context.wrap_socket(
            raw, server_hostname=self.host, do_handshake_on_connect=False
        )

    def failure(self, error):
        """The LimpetError for what a TLS call raised; our own reason comes first."""
        if self.why:
            return Untrusted(*self.why)
        number = error.args[0] if error.args else 0
        if isinstance(error, ValueError):  # mbedTLS gives certificate faults as texts
            words = str(error).strip().replace("\n", "; ")
            if "not correctly signed" in words:
                return Untrusted("SIGNATURE", _SIGNATURE)
            return Untrusted("CERTIFICATE", words)
        if isinstance(number, int):
            code = -number
            if _X509_LOW <= code <= _X509_HIGH or code == _BAD_CERTIFICATE:
                return Untrusted("CERTIFICATE", "the server's certificate was refused: %s" % error)
        return Lost("TLS", "the TLS handshake failed: %s" % error)

    def _check(self, der, depth):
        # `der` lies in memory that mbedTLS frees: nothing of it may be kept. An exception here
        # would jump through mbedTLS's frames and leak; whatever happens ends in a number.
        try:
            self.why = self._look(der, depth)
        except Exception as e:
            self.why = ("CERTIFICATE", "the server's certificate cannot be read (%s)" % e)
        return _REFUSE if self.why else 0

    def _look(self, der, depth):
        """Why this certificate will not do, or None."""
        if self.why:
            return self.why
        certificate = x509.Certificate(der)
        now = clock.now()
        if now < certificate.not_before:
            return (
                "CLOCK",
                "this board's clock says %s, the server's certificate begins on %s"
                % (clock.date(now), clock.date(certificate.not_before)),
            )
        if now > certificate.not_after:
            return (
                "EXPIRED",
                "the server's certificate ended on %s, this board's clock says %s"
                % (clock.date(certificate.not_after), clock.date(now)),
            )
        return None if depth else self._look_for_name(der, certificate)

    def _look_for_name(self, der, certificate):
        seen = []
        if certificate.names:
            at, end = certificate.names
            address = ip_bytes(self._name)
            while at < end:
                tag, start, at = x509.element(der, at, end)
                if tag == x509.DNS_NAME and not address:
                    name = bytes(der[start:at]).lower()
                    if host_matches(name, self._name):
                        return None
                    if len(seen) < 3:
                        seen.append(name)
                elif tag == x509.IP_ADDRESS and address and bytes(der[start:at]) == address:
                    return None
        found = b", ".join(seen)[:80].decode("utf-8", "replace") if seen else "no such name"
        return ("NAME", "the server's certificate is for %s, not %s" % (found, self.host))


def host_matches(pattern, host):
    """RFC 9525, 6.3: equal, or one left-most wildcard label with two labels behind it."""
    if pattern == host:
        return True
    if pattern[:2] != b"*." or b"*" in pattern[2:] or b"." not in pattern[2:]:
        return False
    dot = host.find(b".")
    return dot > 0 and host[dot:] == pattern[1:]


def ip_bytes(host):
    """The 4 bytes of a dotted IPv4 address, otherwise None."""
    parts = host.split(b".")
    if len(parts) != 4:
        return None
    try:
        numbers = [int(p) for p in parts]
    except ValueError:
        return None
    return bytes(numbers) if max(numbers) < 256 and min(numbers) >= 0 else None
