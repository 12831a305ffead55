"""The servers of the attack suite, judged by Python's own TLS: they must be able to catch."""

import socket
import ssl

import pytest
from limpet_kit.attack.certificates import issue
from limpet_kit.attack.impostor import impostor
from limpet_kit.attack.server import ACCEPTED, Server

SECRET = b"correct horse battery"


def say(server, context, name="localhost"):
    """Connect, send the secret, return the answer."""
    with (
        socket.create_connection((server.host, server.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=name) as link,
    ):
        link.sendall(SECRET)
        return link.recv(100)


def trusting(*anchors):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for one in anchors:
        context.load_verify_locations(cadata=one.der)
    return context


def careless():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("rsa", [False, True], ids=["ec", "rsa"])
def test_the_impostor_gets_a_careless_client_and_not_a_careful_one(rsa):
    with impostor(["localhost"], rsa=rsa) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            say(server, trusting(issue(ca=True, common_name="Limpet CA")))
        server.left.wait(10)
        assert server.seen and server.handshakes == 0 and server.plain == b""
        assert say(server, careless()) == ACCEPTED
    assert server.handshakes == 1
    assert server.plain == SECRET
    assert server.holds(SECRET) and server.holds(b"xxxxhors")
    assert not server.holds(b"staple")


def test_an_honest_server_is_believed():
    root = issue(ca=True, common_name="root")
    between = issue(issuer=root, ca=True, common_name="between")
    with Server(issue(["localhost"], between)) as server:
        assert say(server, trusting(root)) == ACCEPTED
    assert server.handshakes == 1


def test_without_tls_all_is_written_down():
    with Server(None, greeting=b"hello") as server:
        with socket.create_connection((server.host, server.port), timeout=10) as raw:
            assert raw.recv(5) == b"hello"
            raw.sendall(SECRET)
            assert raw.recv(100) == ACCEPTED
        server.left.wait(10)
    assert server.plain == SECRET


def test_a_taken_port_is_an_error():
    with Server(None) as server, pytest.raises(OSError), Server(None, (server.host, server.port)):
        pass
