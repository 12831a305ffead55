"""What it means that a TLS call failed. Loaded when one did, and forgotten at once."""

import errno

from micropython import const

from .errors import Lost, Untrusted
from .trust import plain

# mbedTLS error ranges that mean "the certificate" (x509.h -0x2080 to -0x3000, and the TLS
# codes for a bad or missing one); negative OSError numbers of a TLS call only.
_X509_LOW = const(0x2080)
_X509_HIGH = const(0x3000)
_X509_ALLOC_FAILED = const(0x2880)
_BAD_CERTIFICATE = const(0x7A00)
_FATAL_ALERT = const(0x7780)

# What mbedTLS says of a certificate (library/x509_crt.c), and what we call it.
_FAULTS = const(
    (
        ("not correctly signed", "SIGNATURE"),
        ("in the future", "CLOCK"),
        ("expired", "EXPIRED"),
        ("expected CN", "NAME"),
        ("unacceptable", "WEAK"),
        ("Usage", "USAGE"),
    )
)


def of_tls(error, psk, own):
    """The LimpetError for what a TLS call raised; `psk`: by a shared key; `own`: this device's
    certificate was asked for by a server that is ours."""
    text = plain(str(error.args[-1] if error.args else error))
    if isinstance(error, ValueError):  # mbedTLS gives certificate faults as texts
        for fault, code in _FAULTS:
            if fault in text:
                return Untrusted(code)
        return Untrusted("CERTIFICATE", text)
    code = error.args[0] if error.args else 0
    code = -code if isinstance(code, int) else 0
    if code == _X509_ALLOC_FAILED:
        return Lost("MEMORY")
    if _X509_LOW <= code <= _X509_HIGH or code == _BAD_CERTIFICATE:
        return Untrusted("CERTIFICATE", text)
    if code == _FATAL_ALERT and psk:
        return Untrusted("PSK")
    if own:  # the alert is lost when we write meanwhile
        return Lost("CLIENT_CERTIFICATE")
    return Lost("TLS", text)


def at_step(failure, step, error):
    """The Lost for `error`, which trust calls `failure`, by the step that failed (link.py)."""
    # The first write tells how connecting went, by the socket's own number (above 0); a server
    # that speaks first makes it a fault of TLS.
    number = error.args[0] if isinstance(error, OSError) and error.args else 0
    if step == "CONNECT" and not (isinstance(number, int) and number > 0):
        step = None
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "ALLOC_FAILED" in str(error):
        return Lost("MEMORY", error)
    if step and failure.code in ("TLS", "CLIENT_CERTIFICATE"):
        return Lost(step, error)
    return failure
