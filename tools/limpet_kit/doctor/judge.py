"""What is wrong with a server that was looked at, in words, and what to do about it."""

from __future__ import annotations

import importlib.util
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from .. import paths
from .look import Look

WARN_DAYS = 60  # from here on a device warns as well
_RECORD = 16384  # rp2's TLS buffer for one incoming record
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_HASHES = ("sha256", "sha384", "sha512")
# ms on an RP2040 at 125 MHz, solved from whole handshakes on a cycle-counting emulator: P-256
# chain 1635, RSA-2048 chain 867, RSA-2048 with P-256 leaf 1358, RSA-4096 1660, P-384 2727. The
# first is for the key exchange and all else, the others for one signature by such a key.
_EXCHANGE_MS = 653
_VERIFY_MS = {"RSA-2048": 107, "RSA-4096": 503, "P-256": 491, "P-384": 1037}

_RENEW = "Renew it; that of the kit's own broker: limpet broker renew."
_TROUBLES = {
    "DNS": "Look at the name, and at the DNS server that boards will ask.",
    "CONNECT": "Is it running, does it listen on that address, does a firewall stand between?",
    "NO_TLS": "Is this its TLS port (MQTT over TLS: 8883)? Give it a certificate.",
    "MALFORMED": "Make that certificate anew with a common tool.",
}


@dataclass(frozen=True)
class Finding:
    """`fatal`: no board would log in. `code` is the device's own where it has one."""

    code: str
    fatal: bool
    words: str
    advice: str


def judge(seen: Look, anchors: list[x509.Certificate]) -> list[Finding]:
    """All that can be said from what was seen; the board's own verdict is another matter."""
    found = []
    if seen.trouble:
        code, words = seen.trouble
        found.append(Finding(code, True, words, _TROUBLES[code]))
        if code != "MALFORMED":
            return found
    found += _transport(seen)
    if seen.chain:
        found += _leaf(seen) + _chain(seen, anchors)
        for number, one in enumerate(seen.chain):
            found += _certificate(one, "the server's certificate" if not number else title(one))
        anchor = trace(seen.chain, anchors)[1]
        if anchor and anchor not in seen.chain:
            found += _certificate(anchor, "the boards' anchor")
    return found


def handshake_ms(seen: Look, anchors: list[x509.Certificate]) -> int | None:
    """What a handshake costs an RP2040; None where the chain does not end at an anchor, or the
    cost of a key was not measured."""
    if not seen.chain:
        return None
    path, anchor = trace(seen.chain, anchors)
    if anchor is None:
        return None
    try:
        return _EXCHANGE_MS + sum(_VERIFY_MS[key_name(one)] for one in (*path, anchor))
    except KeyError:
        return None


def key_name(certificate: x509.Certificate) -> str:
    """Its kind of key: RSA-2048, P-256."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name.replace("secp", "P-").replace("r1", "")
    return type(key).__name__.strip("_").replace("PublicKey", "")


def names(certificate: x509.Certificate) -> list[str]:
    """Names and addresses of its subjectAltName."""
    entries = _extension(certificate, x509.SubjectAlternativeName)
    kinds = (x509.DNSName, x509.IPAddress)
    return [str(entry.value) for entry in entries or () if isinstance(entry, kinds)]


def title(certificate: x509.Certificate) -> str:
    """What to call it: its subject."""
    return certificate.subject.rfc4514_string() or "a certificate without a name"


def days_left(certificate: x509.Certificate) -> float:
    """Days until it ends; negative when it has ended."""
    return (certificate.not_valid_after_utc - _now()) / timedelta(days=1)


def trace(
    chain: list[x509.Certificate], anchors: list[x509.Certificate]
) -> tuple[list[x509.Certificate], x509.Certificate | None]:
    """From the server's certificate as far up as was sent, and the anchor that it ends at."""
    path = [chain[0]]
    while True:
        for anchor in anchors:
            if path[-1] == anchor:
                return path[:-1] or path, anchor
            if _issued(path[-1], anchor):
                return path, anchor
        above = [one for one in chain if one not in path and _issued(path[-1], one)]
        if not above:
            return path, None
        path.append(above[0])


def _transport(seen: Look) -> list[Finding]:
    found = []
    if "TLSv1.2" not in seen.versions:
        words = f"it speaks {' and '.join(seen.versions)}, MicroPython speaks TLS 1.2 only"
        advice = "Allow TLS 1.2 (Mosquitto: tls_version)."
        if not seen.versions:
            words = "it refuses every hello of this machine, in any version of TLS"
            advice += (
                " With TLS-PSK (profile psk) this is right, and no more can be seen from here."
            )
        found.append(Finding("VERSION", True, words, advice))
    elif not seen.suite:
        words = "it takes no suite that the firmware offers (ECDHE with AES-GCM or AES-CBC)"
        advice = "Allow ECDHE-ECDSA-AES256-GCM-SHA384 or ECDHE-RSA-AES256-GCM-SHA384."
        found.append(Finding("SUITES", True, words, advice))
    if seen.asks:
        words = "it wants a certificate of each device"
        advice = "Boards enrolled for profile x509 have one; no others get in."
        found.append(Finding("CLIENT_CERTIFICATE", False, words, advice))
    if seen.size > _RECORD:
        words = f"its chain is {seen.size} bytes, more than an RP2040's TLS buffer ({_RECORD})"
        found.append(Finding("SIZE", True, words, "Send fewer or smaller certificates."))
    return found


def _leaf(seen: Look) -> list[Finding]:
    leaf = seen.chain[0]
    if _names_host(seen):
        return []
    there = ", ".join(names(leaf)) or "no name (the common name does not count)"
    advice = f"Put {seen.host} into its subjectAltName, or have boards dial a name that is there."
    return [Finding("NAME", True, f"its certificate is for {there}, not for {seen.host}", advice)]


def _chain(seen: Look, anchors: list[x509.Certificate]) -> list[Finding]:
    chain, found = seen.chain, []
    path, anchor = trace(chain, anchors)
    last = path[-1]
    if anchor is None and last.issuer == last.subject:
        words = f"its chain ends at {title(last)}, which signs itself and is not the anchor"
        advice = "Another server, or one with a new CA: limpet anchor add, before it changes."
        found.append(Finding("SIGNATURE", True, words, advice))
    elif anchor is None and any(one.subject == last.issuer for one in (*anchors, *chain)):
        words = f"{title(last)} names an issuer whose key did not sign it"
        found.append(Finding("SIGNATURE", True, words, "Another CA of the same name: see both."))
    elif anchor is None:
        issuer = last.issuer.rfc4514_string()
        words = f"the issuer of {title(last)}, {issuer}, is not sent and is not the anchor"
        advice = (
            "Have the server send that intermediate certificate behind its own; if it is a root, "
            "this server belongs to another CA than the boards trust."
        )
        found.append(Finding("INTERMEDIATE", True, words, advice))
    if chain[: len(path)] != path:
        words = "the certificates are not sent in order, each below its issuer"
        found.append(Finding("ORDER", False, words, "Sort the server's certificate file."))
    spare = [one for one in chain if one not in path]
    if spare:
        words = f"{len(spare)} certificates are sent that no board needs: {title(spare[0])}"
        found.append(Finding("SPARE", False, words, "Leave them out; the anchor is on the board."))
    return found


def _certificate(one: x509.Certificate, called: str) -> list[Finding]:
    found = []

    def fault(code: str, words: str, advice: str, fatal: bool = True) -> None:
        found.append(Finding(code, fatal, words, advice))

    left = days_left(one)
    end, begin = one.not_valid_after_utc, one.not_valid_before_utc
    if left < 0:
        fault("EXPIRED", f"{called} ended on {end:%Y-%m-%d}", _RENEW)
    elif left < WARN_DAYS:
        fault("DAYS", f"{called} ends on {end:%Y-%m-%d}, in {left:.0f} days", _RENEW, False)
    if begin > _now():
        advice = "Wait, or make it anew; is a clock wrong?"
        fault("CLOCK", f"{called} begins on {begin:%Y-%m-%d}", advice)
    key = key_name(one)
    public = one.public_key()
    weak_rsa = isinstance(public, rsa.RSAPublicKey) and public.key_size < 2048
    weak_ec = isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name not in _CURVES
    if weak_rsa or weak_ec:
        advice = "Make it anew with P-256 or RSA-2048."
        fault("WEAK", f"{called} has a key that is too weak: {key}", advice)
    algorithm = _hash(one)
    if algorithm not in _HASHES and one.issuer != one.subject:
        fault("WEAK", f"{called} is signed with {algorithm}", "Sign it with SHA-256.")
    usage = _extension(one, x509.ExtendedKeyUsage)
    if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        fault("USAGE", f"{called} is not for servers", "Make it with serverAuth.")
    if _extension(one, x509.NameConstraints) is not None:
        advice = "mbedTLS cannot check them: use a CA without."
        fault("CONSTRAINTS", f"{called} has name constraints", advice)
    return found


def _names_host(seen: Look) -> bool:
    """Whether the server's certificate names it, by the device's own rules (names.py)."""
    rules = _device_rules()
    host = seen.host.strip("[]").rstrip(".").lower().encode()
    address = rules.address(host)
    for entry in _extension(seen.chain[0], x509.SubjectAlternativeName) or ():
        if isinstance(entry, x509.IPAddress) and address == _packed(entry):
            return True
        if isinstance(entry, x509.DNSName) and not address:
            name = entry.value.lower().encode("ascii", "replace")
            if rules.matches(name, host):
                return True
    return False


def _packed(entry: x509.IPAddress) -> bytes:
    value = entry.value
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return value.packed
    return b""


def _device_rules() -> Any:
    path = paths.data("lib") / "limpet" / "names.py"
    spec = importlib.util.spec_from_file_location("limpet_names", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _issued(one: x509.Certificate, by: x509.Certificate) -> bool:
    if one.issuer != by.subject:
        return False
    verify: Callable[[x509.Certificate], None] = one.verify_directly_issued_by
    try:
        verify(by)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _hash(one: x509.Certificate) -> str:
    try:
        algorithm = one.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "an unknown algorithm"
    return algorithm.name if algorithm else "an algorithm without a hash"


def _extension(one: x509.Certificate, kind: Any) -> Any:
    try:
        return one.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _now() -> datetime:
    return datetime.now(timezone.utc)
