"""`limpet doctor` on real TLS servers: each broken one's fault is named, and only its own."""

import json
import ssl
from datetime import datetime, timezone

import pytest
from cryptography import x509
from limpet_kit.attack.certificates import DAY, Identity, issue
from limpet_kit.attack.server import Server

NAMES = ("localhost", "127.0.0.1")
ROOT = issue(ca=True, common_name="Our CA")
MIDDLE = issue([], ROOT, ca=True, common_name="Our intermediate")
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def without_intermediate():
    whole = issue(NAMES, MIDDLE)
    return Identity(whole.certificate, whole.key)


def out_of_order():
    upper = issue([], MIDDLE, ca=True, common_name="Our lower intermediate")
    whole = issue(NAMES, upper)
    return Identity(whole.certificate, whole.key, whole.between[::-1])


def constrained():
    """Constraints that are met; mbedTLS cannot know."""
    limits = x509.NameConstraints([x509.DNSName("localhost")], None)
    return issue(NAMES, issue([], ROOT, ca=True, common_name="Middle", constraints=limits))


def only_1_3(context):
    context.minimum_version = ssl.TLSVersion.TLSv1_3


def only_rsa_exchange(context):
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("kRSA:@SECLEVEL=0")


def weak():
    return issue(NAMES, ROOT, key="rsa1024")


DISCONNECT = b"\xe0\0"  # what the device library says to a server that it accepts
# The device library's own word where it differs: it sees less, or sees it in a TLS alert.
BOARD = {"INTERMEDIATE": "SIGNATURE", "VERSION": "TLS", "SUITES": "TLS", "SIZE": "TLS"}
BROKEN = {
    "INTERMEDIATE": (without_intermediate, {}),
    "NAME": (lambda: issue(["other.example"], ROOT, common_name="localhost"), {}),
    "EXPIRED": (lambda: issue(NAMES, ROOT, begin=NOW - 9 * DAY, end=NOW - 2 * DAY), {}),
    "CLOCK": (lambda: issue(NAMES, ROOT, begin=NOW + 2 * DAY), {}),
    "SIGNATURE": (lambda: issue(NAMES), {}),
    "WEAK": (weak, {}),
    "USAGE": (lambda: issue(NAMES, ROOT, usage=["client"]), {}),
    "CONSTRAINTS": (constrained, {}),
    "SIZE": (lambda: issue(NAMES, ROOT, padding=20_000), {}),
    "VERSION": (lambda: issue(NAMES, ROOT), {"context": only_1_3}),
    "SUITES": (lambda: issue(NAMES, ROOT, key="rsa2048"), {"context": only_rsa_exchange}),
    "NO_TLS": (lambda: None, {"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"}),
}


@pytest.fixture
def doctor(tool, tmp_path):
    """`doctor("host:port", root=ROOT)` -> (exit code, the JSON object)."""

    def run(server, root=ROOT):
        (tmp_path / "ca.crt").write_bytes(root.chain_pem)
        done = tool("limpet", "doctor", server, "--ca", tmp_path / "ca.crt", "--json", check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.mark.parametrize("code", BROKEN)
def test_the_fault_is_named(code, doctor):
    make, options = BROKEN[code]
    with Server(make(), **options) as server:
        exit_code, report = doctor(f"127.0.0.1:{server.port}")
        assert code == "NO_TLS" or server.plain == b""
    faults = {one["code"] for one in report["findings"] if one["fatal"]}
    assert exit_code == 13 and not report["ok"]
    assert faults == {code}
    assert code == "NO_TLS" or report["board"]["code"] == BOARD.get(code, code)
    assert all(one["words"] and one["advice"] for one in report["findings"])


@pytest.mark.parametrize("key, cost", [("p256", 1635), ("rsa2048", 867), ("p384", 2727)])
def test_a_right_server(key, cost, doctor):
    root = issue(ca=True, common_name="Our CA", key=key)
    with Server(issue(NAMES, root, key=key)) as server:
        exit_code, report = doctor(f"localhost:{server.port}", root)
        assert server.plain == DISCONNECT
    assert exit_code == 0 and report["ok"] and report["board"] is None
    assert report["findings"] == [] and report["board_tried"]
    assert report["addresses"] and report["versions"] == ["TLSv1.2", "TLSv1.3"]
    assert report["chain"][0]["names"] == list(NAMES) and report["chain"][0]["days_left"] > 364
    assert abs(report["rp2040_handshake_ms"] - cost) <= 2  # as measured


def test_what_only_costs_is_a_note(doctor):
    with Server(issue(NAMES, MIDDLE, end=NOW + 20 * DAY)) as server:
        exit_code, report = doctor(f"127.0.0.1:{server.port}")
    assert exit_code == 0 and [one["code"] for one in report["findings"]] == ["DAYS"]
    with Server(out_of_order()) as server:
        exit_code, report = doctor(f"127.0.0.1:{server.port}")
    assert "ORDER" in [one["code"] for one in report["findings"]]


def test_the_anchor_is_looked_at_as_well(doctor):
    old = issue(ca=True, common_name="Our CA", end=NOW - DAY / 2)
    with Server(issue(NAMES, old)) as server:
        exit_code, report = doctor(f"127.0.0.1:{server.port}", old)
    assert exit_code == 13 and report["board"]["code"] == "EXPIRED"
    assert [one["words"][:17] for one in report["findings"]] == ["the boards' anchor"[:17]]


def test_without_micropython_it_says_what_was_not_tried(tool, tmp_path):
    (tmp_path / "ca.crt").write_bytes(ROOT.chain_pem)
    hidden = "import sys; from limpet_kit import micropython as m; m.find = lambda: None; "
    with Server(issue(NAMES, ROOT)) as server:
        where = f"127.0.0.1:{server.port}"
        arguments = ["doctor", where, "--ca", str(tmp_path / "ca.crt")]
        program = f"{hidden}from limpet_kit.cli import main; sys.exit(main({arguments!r}))"
        done = tool("python", "-c", program)
        assert server.plain == b""
    assert b"NOT TRIED" in done.stdout and b"accepts it" not in done.stdout


def test_nobody_there(doctor):
    with Server(None) as server:
        port = server.port
    exit_code, report = doctor(f"127.0.0.1:{port}")
    assert exit_code == 13 and [one["code"] for one in report["findings"]] == ["CONNECT"]
    assert not report["board_tried"]
    exit_code, report = doctor("nobody.invalid")
    assert exit_code == 13 and [one["code"] for one in report["findings"]] == ["DNS"]


def test_a_board_would_accept_the_kits_own_broker(tmp_path, tool, broker_factory):
    broker = broker_factory("embedded")
    where = f"localhost:{broker.settings.port}"
    done = tool("limpet", "doctor", where, "--broker", broker.settings.folder)
    assert b"the device library accepts it" in done.stdout
    assert b"verdict   fit" in done.stdout


@pytest.mark.mosquitto
@pytest.mark.parametrize("profile", ["psk", "x509"])
def test_a_broker_that_wants_more_than_a_password(profile, tool, broker_factory):
    broker = broker_factory("mosquitto", profile=profile)
    where = f"localhost:{broker.settings.port}"
    done = tool("limpet", "doctor", where, "--broker", broker.settings.folder, check=False)
    said = done.stdout.decode()
    if profile == "x509":
        assert done.returncode == 0, said
        assert "CLIENT_CERTIFICATE" in said and "TLSv1.2" in said and "NOT TRIED" in said
    else:
        assert done.returncode == 13 and "TLS-PSK" in said, said


def test_a_certificate_that_cannot_be_read(doctor):
    """A length in the server's certificate is wrong; the wire's own lengths are right."""
    identity = issue(NAMES, ROOT)

    def damaged(data):
        at = data.find(identity.der)
        return [(0.0, data if at < 0 else data[: at + 5] + b"\x7f" + data[at + 6 :])]

    with Server(identity, shape=damaged) as server:
        exit_code, report = doctor(f"127.0.0.1:{server.port}")
    assert exit_code == 13
    assert report["findings"][0]["code"] == "MALFORMED"


def test_bad_input_is_one_sentence(tool, tmp_path):
    done = tool("limpet", "doctor", "localhost:x", check=False)
    assert done.returncode == 2 and b"HOST:PORT" in done.stderr
    (tmp_path / "no.crt").write_bytes(b"no certificate")
    done = tool("limpet", "doctor", "localhost", "--ca", tmp_path / "no.crt", check=False)
    assert done.returncode == 2 and b"PEM or DER" in done.stderr
