"""The private certificate authority of one broker: its anchor and its server certificate.

Devices carry the CA's certificate as their anchor and check the server against it, so a server
certificate can be renewed without touching a device. What is in the certificates follows from
what MicroPython's TLS does (measured): it falls back to the common name when there is no
subjectAltName, so names are in the subjectAltName and the common name is no host name; a
*critical* name constraint breaks its handshake, so there is none.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .broker.files import write_private
from .errors import FAILED, USAGE, KitError
from .secret import Secret

DEMO = "LIMPET DEMO"  # in the CA's common name: never to be trusted by a real board
FILES = ("ca.key", "ca.crt", "server.key", "server.crt")
DEVICES = "devices"  # the CA of device certificates: devices.key, devices.crt
CRL = "revoked.crl"
NODES, NODE = "nodes", "node"  # the CA of a cluster's nodes, and the certificate that they share
SKEW = timedelta(hours=1)  # a board's clock may be a little behind this machine's

_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make(
    folder: Path,
    names: list[str],
    rsa: bool = False,
    days_ca: int = 3650,
    days_server: int = 825,
    demo: bool = False,
) -> None:
    """Make a CA and a server certificate for `names` (host names and IP addresses) in `folder`.

    Writes `ca.crt`, `ca.key`, `server.crt`, `server.key` as PEM, mode 0600. EC P-256, or RSA-2048,
    which an RP2040 verifies in half the time. `demo` makes both valid for one day and says so in
    the CA's name. The server certificate never outlives the CA.
    Raises `KitError` when one of the files exists or a name cannot stand in a certificate.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise KitError(
            f"{folder} already holds {', '.join(there)}; nothing was overwritten. "
            "Choose another folder, or move the old files away first."
        )
    general_names = [general_name(name) for name in names]
    if not general_names:
        raise KitError("A server certificate needs at least one name or address.", USAGE)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    ca_end = now + timedelta(days=1 if demo else days_ca)

    ca_key, server_key = _key(rsa), _key(rsa)
    title = f"{DEMO if demo else 'Limpet CA'} {now:%Y-%m-%d} {secrets.token_hex(4)}"
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        _builder(ca_name, ca_name, ca_key, now - SKEW, ca_end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server = _server(ca_key, ca, server_key, general_names, days_server)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents = (_pem(ca_key), _certificate_pem(ca), _pem(server_key), _certificate_pem(server))
    for file, content in zip(FILES, contents, strict=True):
        write_private(folder / file, content)


def renew(folder: Path, names: list[str], days: int = 825) -> None:
    """Make `server.crt` anew for these names: by the same CA, so that no device has to be told,
    and for the same key, so that one file is replaced and pins of the key hold.

    Raises `KitError` when a key is missing, or the CA has ended.
    """
    issuer = _load(folder / "ca.crt")
    if days_left(folder, "ca.crt") <= 0:
        raise KitError(
            "The CA itself has ended: boards need another one. See `limpet anchor --help`.", FAILED
        )
    signer, key = _private(folder / "ca.key"), _private(folder / "server.key")
    made = _server(signer, issuer, key, [general_name(name) for name in names], days)
    write_private(folder / "server.crt", _certificate_pem(made))


def _server(
    signer: _Key, issuer: x509.Certificate, key: _Key, names: list[x509.GeneralName], days: int
) -> x509.Certificate:
    """A server's certificate, which never outlives its CA."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    end = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Limpet broker")])
    public, issuers = key.public_key(), signer.public_key()
    return (
        _builder(subject, issuer.subject, key, now - SKEW, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _private(file: Path) -> _Key:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError):
        raise KitError(f"{file} is missing or no key.", FAILED) from None
    if not isinstance(key, _Key):
        raise KitError(f"{file} is a key of another kind than the kit makes.", FAILED)
    return key


def make_devices(folder: Path, days: int = 3650) -> None:
    """Make a CA of its own for device certificates (profile x509), and its empty revocation list.

    Another one than the server's: whatever it signs, no device takes it for the server.
    """
    key, certificate = _authority("Limpet devices", days)
    write_private(folder / f"{DEVICES}.key", _pem(key))
    write_private(folder / f"{DEVICES}.crt", _certificate_pem(certificate))
    revoke(folder, [], [])


def make_nodes(folder: Path, hosts: Iterable[str], days: int = 3650) -> None:
    """Make the one certificate by which the nodes of a cluster know each other, `node.crt` with
    `node.key`, and its CA `nodes.crt`, whose key is kept nowhere: it signs nothing else."""
    signer, issuer = _authority("Limpet nodes", days)
    key = _key(False)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Limpet node")])
    # Erlang looks for an address among the names (25), or among the addresses.
    names = {general for host in hosts for general in (x509.DNSName(host), general_name(host))}
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(
            name, issuer.subject, key, issuer.not_valid_before_utc, issuer.not_valid_after_utc
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )
    write_private(folder / f"{NODE}.key", _pem(key))
    write_private(folder / f"{NODE}.crt", _certificate_pem(certificate))
    write_private(folder / f"{NODES}.crt", _certificate_pem(issuer))


def issue(folder: Path, account: str) -> tuple[Secret, bytes, int]:
    """A device's key (EC P-256, DER), its certificate (DER) for this account, its serial number.

    The key is drawn here and is in no file of this machine.
    """
    signer, issuer = _devices(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, account)])
    now = datetime.now(timezone.utc).replace(microsecond=0)
    certificate = (
        _builder(name, issuer.subject, key, now - SKEW, issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    encoded = certificate.public_bytes(serialization.Encoding.DER)
    return Secret(der), encoded, certificate.serial_number


def revoke(folder: Path, serials: Iterable[int], good: Iterable[int]) -> None:
    """Add serial numbers to the revocation list of device certificates; take the `good` ones out.

    It is valid as long as the CA: an expired list would lock out every device.
    """
    signer, issuer = _devices(folder)
    before: set[int] = set()
    if (folder / CRL).exists():
        old = x509.load_pem_x509_crl((folder / CRL).read_bytes())
        before = {entry.serial_number for entry in old}
    now = datetime.now(timezone.utc).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - SKEW)
        .next_update(issuer.not_valid_after_utc)
    )
    for serial in sorted((before | set(serials)) - set(good)):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    listed = builder.sign(signer, hashes.SHA256())
    write_private(folder / CRL, listed.public_bytes(serialization.Encoding.PEM))


def _authority(title: str, days: int) -> tuple[_Key, x509.Certificate]:
    """A CA and its key."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    key = _key(False)
    words = f"{title} {now:%Y-%m-%d} {secrets.token_hex(4)}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])
    certificate = (
        _builder(name, name, key, now - SKEW, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _devices(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    issuer, signer = _load(folder / f"{DEVICES}.crt"), _private(folder / f"{DEVICES}.key")
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return signer, issuer


def general_name(name: str) -> x509.GeneralName:
    """A host name or IP address as it stands in a subjectAltName; `KitError` when it cannot."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    fits = len(name) <= 253 and all(_LABEL.match(label) for label in labels)
    if not fits or labels[-1].isdigit():
        raise KitError(
            f"{name!r} is neither a host name (letters, digits, '-' and '.') nor an IP address; "
            "give it as boards will dial it, without port, scheme or wildcard.",
            USAGE,
        )
    return x509.DNSName(name.lower())


def canonical(name: str) -> str:
    """A host name or IP address as it is compared; `KitError` as `general_name`."""
    found = general_name(name)
    return str(found.value) if isinstance(found, x509.IPAddress) else name


def anchor_der(folder: Path) -> bytes:
    """The CA certificate in DER: MicroPython's TLS takes no PEM."""
    return _load(folder / "ca.crt").public_bytes(serialization.Encoding.DER)


def certificates(content: bytes, file: Path) -> list[x509.Certificate]:
    """The certificates of a file's content, PEM or DER; `KitError` (USAGE) when it has none."""
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError:
        raise KitError(f"{file} holds no certificate in PEM or DER.", USAGE) from None


def read_anchor(file: Path) -> bytes:
    """The one CA certificate of a file, PEM or DER, as PEM; `KitError` (USAGE) otherwise."""
    try:
        found = certificates(file.read_bytes(), file)
    except OSError as e:
        raise KitError(f"{file} cannot be read: {e.strerror}.", USAGE) from None
    if len(found) != 1:
        raise KitError(
            f"{file} holds {len(found)} certificates. Leave the one CA that boards shall trust.",
            USAGE,
        )
    return _certificate_pem(found[0])


def subject_cn(der: bytes) -> str:
    """The common name of a certificate's subject, empty when there is none."""
    found = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def is_demo(der: bytes) -> bool:
    """True for the CA of a demo, which no real board may be given."""
    return DEMO in subject_cn(der)


def days_left(folder: Path, file: str = "server.crt") -> float:
    """Days until that certificate ends; negative when it has ended."""
    left = _load(folder / file).not_valid_after_utc - datetime.now(timezone.utc)
    return left / timedelta(days=1)


def _key(use_rsa: bool) -> _Key:
    if use_rsa:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise KitError(f"The certificate {path} is missing.", FAILED) from None
    except ValueError:
        raise KitError(f"{path} is not a certificate in PEM.", FAILED) from None
