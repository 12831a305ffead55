"""Certificates, judged by two verifiers that did not make them: cryptography's and OpenSSL's."""

import ipaddress
import socket
import ssl
import stat
import threading
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from limpet_kit import ca
from limpet_kit.errors import KitError

NAMES = ["Broker.Local", "192.0.2.7", "fd00::7", "localhost"]


def read(folder, file):
    return x509.load_pem_x509_certificate((folder / file).read_bytes())


def verify(folder, name):
    """cryptography's own path validation for a server."""
    store = Store([read(folder, "ca.crt")])
    return (
        PolicyBuilder()
        .store(store)
        .build_server_verifier(name)
        .verify(read(folder, "server.crt"), [])
    )


def shake_hands(folder, name, anchors):
    """One TLS handshake over a socket pair; raises what the client's side raises."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.crt", folder / "server.key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(anchors / "ca.crt")
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)

    def serve():
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as link:
            return link.version(), link.getpeercert()
    finally:
        ours.close()
        thread.join()


@pytest.fixture(scope="module", params=[False, True], ids=["ec", "rsa"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca")
    ca.make(folder, NAMES, rsa=request.param)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    ca.make(folder, NAMES)
    return folder


def test_both_verifiers_accept_each_name(made):
    verify(made, x509.DNSName("broker.local"))
    verify(made, x509.IPAddress(ipaddress.ip_address("192.0.2.7")))
    for name in ("broker.local", "192.0.2.7", "fd00::7"):
        version, peer = shake_hands(made, name, made)
        assert version in ("TLSv1.2", "TLSv1.3")
        assert ("DNS", "broker.local") in peer["subjectAltName"]


def test_both_verifiers_refuse_another_name_and_another_ca(made, other):
    with pytest.raises(VerificationError):
        verify(made, x509.DNSName("other.local"))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"doesn't match|mismatch"):
        shake_hands(made, "other.local", made)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"signature|issuer|self"):
        shake_hands(made, "broker.local", other)


def test_the_common_name_is_no_host_name(made):
    """MicroPython falls back to it when there is no subjectAltName."""
    cn = ca.subject_cn(read(made, "server.crt").public_bytes(serialization.Encoding.DER))
    with pytest.raises(KitError):
        ca.general_name(cn)


def test_the_ca_may_sign_servers_and_nothing_below_them(made):
    authority, server = read(made, "ca.crt"), read(made, "server.crt")
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    theirs = server.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert theirs.key_identifier == own.digest
    critical = {e.oid for c in (authority, server) for e in c.extensions if e.critical}
    assert x509.oid.ExtensionOID.NAME_CONSTRAINTS not in critical  # breaks MicroPython


def test_whoever_holds_the_server_key_cannot_certify_others(made, tmp_path):
    server = read(made, "server.crt")
    key = serialization.load_pem_private_key((made / "server.key").read_bytes(), None)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(server.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(server.not_valid_before_utc)
        .not_valid_after(server.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("other.local")]), critical=True)
        .sign(key, hashes.SHA256())
    )
    name = x509.DNSName("other.local")
    verifier = PolicyBuilder().store(Store([read(made, "ca.crt")])).build_server_verifier(name)
    with pytest.raises(VerificationError):
        verifier.verify(forged, [server])
    chain = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (forged, server))
    (tmp_path / "server.crt").write_bytes(chain)
    (tmp_path / "server.key").write_bytes((made / "server.key").read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, "other.local", made)


def test_lifetimes(made, tmp_path):
    now = datetime.now(timezone.utc)
    for file, days in (("ca.crt", 3650), ("server.crt", 825)):
        certificate = read(made, file)
        assert timedelta(minutes=50) < now - certificate.not_valid_before_utc < timedelta(hours=2)
        assert days - 0.1 < ca.days_left(made, file) <= days
    ca.make(tmp_path, ["localhost"], days_ca=10, days_server=800)
    authority, server = read(tmp_path, "ca.crt"), read(tmp_path, "server.crt")
    assert server.not_valid_after_utc == authority.not_valid_after_utc


def test_a_demo_says_so_and_lasts_a_day(tmp_path, made):
    ca.make(tmp_path, ["localhost"], demo=True)
    assert 0.9 < ca.days_left(tmp_path, "ca.crt") <= 1
    assert 0.9 < ca.days_left(tmp_path) <= 1
    assert "LIMPET DEMO" in ca.subject_cn(ca.anchor_der(tmp_path))
    assert ca.is_demo(ca.anchor_der(tmp_path)) and not ca.is_demo(ca.anchor_der(made))
    shake_hands(tmp_path, "localhost", tmp_path)


def test_files_are_private_and_never_overwritten(made):
    before = {file: (made / file).read_bytes() for file in ca.FILES}
    for file in ca.FILES:
        assert stat.S_IMODE((made / file).stat().st_mode) == 0o600
    with pytest.raises(KitError, match="nothing was overwritten"):
        ca.make(made, NAMES)
    assert before == {file: (made / file).read_bytes() for file in ca.FILES}
    assert sorted(p.name for p in made.iterdir()) == sorted(ca.FILES)  # no temporary left


@pytest.mark.parametrize(
    "name", ["", "*.example.org", "a b", "broker:8883", "mqtts://x", "-x", "1.2.3", "x..y", "ü.de"]
)
def test_a_name_that_cannot_be_dialled_is_refused(tmp_path, name):
    with pytest.raises(KitError, match="neither a host name"):
        ca.make(tmp_path, [name])
    assert not list(tmp_path.iterdir())


def test_a_certificate_that_is_none(tmp_path):
    with pytest.raises(KitError, match="missing"):
        ca.anchor_der(tmp_path)
    (tmp_path / "ca.crt").write_text("no")
    with pytest.raises(KitError, match="not a certificate"):
        ca.anchor_der(tmp_path)
