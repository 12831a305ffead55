"""Certificates to order: right ones, and each kind of wrong one.

Nothing here is for use; `limpet_kit.ca` makes the certificates of real brokers.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)

_CURVES: dict[str, Any] = {
    "p224": ec.SECP224R1,
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
    "brainpool256": ec.BrainpoolP256R1,
}
_HASHES: dict[str, Any] = {
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
# Hashes that no library signs a certificate with any more: last byte of the OID beside RSA's.
_BROKEN: dict[str, tuple[int, Any]] = {"md5": (4, hashes.MD5), "sha1": (5, hashes.SHA1)}
_USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "email": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}


@dataclass(frozen=True)
class Identity:
    """A certificate with its key, and the certificates between it and its root."""

    certificate: x509.Certificate
    key: Any
    between: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        """The certificate alone, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def chain_pem(self) -> bytes:
        """What a server sends: the certificate and those between, PEM."""
        parts = (self.certificate, *self.between)
        return b"".join(part.public_bytes(serialization.Encoding.PEM) for part in parts)

    @property
    def key_pem(self) -> bytes:
        """The private key, PEM without a password: nothing here protects anything."""
        return bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @property
    def key_info(self) -> bytes:
        """Its SubjectPublicKeyInfo, DER: what a pin is the SHA-256 of."""
        return self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def issue(
    names: Sequence[str | x509.GeneralName] = (),
    issuer: Identity | None = None,
    *,
    ca: bool = False,
    common_name: str = "Limpet test",
    key: str = "p256",
    fresh_key: bool = False,
    hash: str = "sha256",
    begin: datetime | None = None,
    end: datetime | None = None,
    usage: Sequence[str] = ("server",),
    path_length: int | None = None,
    constraints: x509.NameConstraints | None = None,
    constraints_critical: bool = False,
    key_usage: bool = True,
    unknown_critical: bool = False,
    padding: int = 0,
) -> Identity:
    """A certificate; without an `issuer` it signs itself.

    `names` go into subjectAltName, a text as DNS name or address; none into no such extension.
    `key` is p224, p256, p384, p521, brainpool256 or rsa and a number of bits; `hash` sha224 to
    sha512, with an RSA issuer also sha1 and md5. `usage` are the purposes of extendedKeyUsage:
    server, client, email, any; none for no such extension. `key_usage` False states a usage that
    no server's key needs. `padding` adds an extension of that many bytes. RSA keys are drawn once
    a process, unless `fresh_key`.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0)
    private = _draw(key) if fresh_key or not key.startswith("rsa") else _keep(key, ca)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin or now - DAY)
        .not_valid_after(end or now + 365 * DAY)
        .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
        .add_extension(_key_usage(ca, key_usage), critical=True)
    )
    if names:
        alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    if usage and not ca:
        purposes = x509.ExtendedKeyUsage([_USAGES[u] for u in usage])
        builder = builder.add_extension(purposes, critical=False)
    if constraints:
        builder = builder.add_extension(constraints, critical=constraints_critical)
    if unknown_critical or padding:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
        extra = x509.UnrecognizedExtension(oid, b"\x04\x00" + bytes(padding))
        builder = builder.add_extension(extra, critical=unknown_critical)
    signer = issuer.key if issuer else private
    if hash in _BROKEN:
        certificate = _sign_badly(builder, signer, *_BROKEN[hash])
    else:
        certificate = builder.sign(signer, _HASHES[hash]())
    between: tuple[x509.Certificate, ...] = ()
    if issuer and issuer.certificate.subject != issuer.certificate.issuer:
        between = (issuer.certificate, *issuer.between)
    return Identity(certificate, private, between)


def _general_name(name: str | x509.GeneralName) -> x509.GeneralName:
    """As it stands: a wrong name is what some cases are about."""
    if isinstance(name, x509.GeneralName):
        return name
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(ca: bool, right: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=right and not ca,
        key_cert_sign=right and ca,
        crl_sign=ca or not right,
        content_commitment=False,
        key_encipherment=right and not ca,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign_badly(
    builder: x509.CertificateBuilder, signer: Any, last: int, algorithm: Any
) -> x509.Certificate:
    """Sign with RSA and a broken hash: sha256WithRSAEncryption's name is replaced, then signed."""
    right = builder.sign(signer, hashes.SHA256())
    stem = bytes.fromhex("2a864886f70d0101")
    old, new = stem + b"\x0b", stem + bytes((last,))
    tbs = right.tbs_certificate_bytes.replace(old, new)
    signature = signer.sign(tbs, rsa_padding.PKCS1v15(), algorithm())
    der = right.public_bytes(serialization.Encoding.DER).replace(old, new)
    return x509.load_der_x509_certificate(der[: -len(signature)] + signature)


def _draw(kind: str) -> Any:
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    return ec.generate_private_key(_CURVES[kind]())


@functools.cache
def _keep(kind: str, ca: bool) -> Any:
    """An RSA key takes seconds: one for all servers of a kind, another for its CAs."""
    return _draw(kind)
