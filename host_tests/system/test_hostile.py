"""The client on the real MicroPython against servers that are not ours, or not as they should be.

Every case has a device dial a server that writes down what reaches it. A hostile one must be
left before a byte of the password was said, and in time; an honest one must be logged in at.
Each case writes a line of the table at the end of the run. Time is the device's own
(device/warp.py), so that a minute of patience takes a moment.
"""

import functools
import itertools
import textwrap
import time
import warnings
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from ssl import TLSVersion
from types import SimpleNamespace

import pytest
from cryptography import x509
from limpet_kit.attack.certificates import DAY, Identity, issue
from limpet_kit.attack.server import Server
from limpet_kit.broker import accounts
from limpet_kit.broker import server as brokers
from rig.device import Device
from rig.micropython import PORTS

HOST = "broker.example"
NAMES = (HOST, "localhost")  # by the second, the kit looks whether the broker is up
FIRST = "from warp import ask, clock; import warp; warp._PATIENCE_MS = 30"
SLOWLY_S = 0.05  # more than that patience: for the device, a second
SKETCH = """
from limpet import resolve
working = resolve._info
resolve._info = lambda host, port: working("127.0.0.1", port)  # whatever the name is

def log(line):
    say("log", line=line, at=clock.now())
    if line.startswith(("OFFLINE", "REFUSED", "UNTRUSTED")):
        ask("failed", line=line)

c = client(log=log)
clock.eager = {eager}

async def main():
    c.start()
    await c.online()
    ask("up")

asyncio.run(main())
"""
# On an imitated port the clock is the port's own, and mbedTLS's the machine's: both are right.
CLOCK = "; from limpet import clock as calendar; calendar.set_to({now})"
LEFT_S = 61  # the deadline of a login, and a little for a busy machine
NOW = datetime.now(timezone.utc).replace(microsecond=0)


@functools.cache
def root(key="p256", **options):
    """The device's anchor, one a process for each kind."""
    return issue(ca=True, common_name="Our CA", key=key, **options)


def below(issuer, **options):
    """An intermediate CA."""
    return issue([], issuer, **{"ca": True, **options})


@dataclass
class Case:
    """A server: its identity, what else is wrong with it, and the device's answer to it.

    `words` begin the device's reason. `anchor` is what the device trusts, `host` what it dials.
    `slow`: there is silence in it, which the device must not wait out for longer than a minute.
    """

    make: object
    words: str = "UNTRUSTED"
    host: str = HOST
    anchor: object = root
    server: dict = field(default_factory=dict)
    slow: bool = False


def named(*names, host=HOST, words="UNTRUSTED: the server's certificate is for", **options):
    return Case(lambda: issue(names, root(), **options), words, host)


def signed(issuer, words="UNTRUSTED", anchor=root, **options):
    return Case(lambda: issue(NAMES, issuer(), **options), words, anchor=anchor)


def ours(**options):
    return signed(root, **options)


def rsa_root():
    return root("rsa2048")


def foreign():
    return issue(ca=True, common_name="Another CA")


def namesake():
    return issue(ca=True, common_name="Our CA")


def chained(*between, anchor=root, words="UNTRUSTED", **options):
    """A server below intermediates, each with its own faults."""

    def make():
        issuer = anchor()
        for number, faults in enumerate(between):
            issuer = below(issuer, common_name=f"Intermediate {number}", **faults)
        return issue(NAMES, issuer, **options)

    return Case(make, words, anchor=anchor)


def missing_intermediate():
    whole = issue([HOST], below(root()))
    return Identity(whole.certificate, whole.key)


def with_true_root():
    """Another CA's certificate, and behind it the true one, for show."""
    false = issue([HOST], foreign())
    return Identity(false.certificate, false.key, (root().certificate,))


def tampered():
    """Our signature under another certificate's bytes."""
    true = issue([HOST], root())
    der = bytearray(true.der)
    der[-1] ^= 1
    return Identity(x509.load_der_x509_certificate(bytes(der)), true.key)


def long_chain(count):
    issuer = root()
    for k in range(count):
        issuer = below(issuer, common_name=f"Intermediate {k}")
    return issue([HOST], issuer)


def constrained(critical, permitted=None, excluded=None):
    def trees(name):
        return [x509.DNSName(name)] if name else None

    constraints = x509.NameConstraints(trees(permitted), trees(excluded))
    return chained({"constraints": constraints, "constraints_critical": critical})


def at(begin, end):
    """Dates, in days from now."""
    return {"begin": NOW + begin * DAY, "end": NOW + end * DAY}


def versions(low, high):
    def change(context):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nobody should use it is the point
            context.minimum_version, context.maximum_version = low, high

    return Case(lambda: issue([HOST], root()), "OFFLINE", server={"context": change})


def suites(text, **options):
    def change(context):
        context.maximum_version = TLSVersion.TLSv1_2
        context.set_ciphers(text + ":@SECLEVEL=0")

    return Case(
        lambda: issue([HOST], rsa_root(), key="rsa2048"),
        "OFFLINE",
        anchor=rsa_root,
        server={"context": change},
        **options,
    )


def says(data, **options):
    """No TLS: these bytes at once, then nothing."""
    server = {"greeting": data, "answer": b""}
    return Case(lambda: None, "OFFLINE", server=server, **options)


def shaped(shape, words="OFFLINE", **options):
    """The right server, but what it says is changed on its way."""
    return Case(lambda: issue([HOST], root()), words, server={"shape": shape}, **options)


def cut(data):
    return [(0.0, data[: len(data) // 2])]  # and nothing more


def drip(data):
    return [(SLOWLY_S, data[i : i + 1]) for i in range(len(data))]


def first_record(data):
    return [(0.0, data[: 5 + int.from_bytes(data[3:5], "big")])]


def flipped(data):
    return [(0.0, data[:40] + bytes([data[40] ^ 0x55]) + data[41:])]


def twice(data):
    return [(0.0, data), (0.0, data)]


def backwards(data):
    """The first two records change places."""
    n = 5 + int.from_bytes(data[3:5], "big")
    m = n + 5 + int.from_bytes(data[n + 3 : n + 5], "big")
    return [(0.0, data[n:m] + data[:n] + data[m:])]


def never(data):
    return [(3600.0, data)]


NAME = "UNTRUSTED: the server's certificate is for"
WEAK = "UNTRUSTED: a"
TLS_1_0, TLS_1_1, TLS_1_3 = TLSVersion.TLSv1, TLSVersion.TLSv1_1, TLSVersion.TLSv1_3
RECORD = b"\x16\x03\x03"  # handshake, TLS 1.2
CASES = {
    # names
    "name: another": named("other.example"),
    "name: none, ours as common name": named(common_name=HOST),
    "name: another, ours as common name": named("other.example", common_name=HOST),
    "name: * in place of all": named("*"),
    "name: *.example, a whole top-level domain": named("*.example"),
    "name: wildcard within a label": named("bro*.example"),
    "name: two wildcards": named("*.*.example"),
    "name: wildcard one label too deep": named("*.broker.example"),
    "name: wildcard for two labels": named("*.home.example", host="a.b.home.example"),
    "name: ours as a beginning": named("broker.example.evil.example"),
    "name: ours as an end": named("evilbroker.example"),
    "name: ours before a zero byte": named("broker.example\0.evil.example"),
    "name: a parent of ours": named("example"),
    "name: as mail address": named(x509.RFC822Name(f"me@{HOST}")),
    "name: as URI": named(x509.UniformResourceIdentifier(f"https://{HOST}/")),
    "address: another": named("127.0.0.2", host="127.0.0.1"),
    "address: as DNS name": named(x509.DNSName("127.0.0.1"), host="127.0.0.1"),
    "address: name only": named(HOST, host="127.0.0.1"),
    "address: for a name": named("127.0.0.1"),
    "address: as common name": named(common_name="127.0.0.1", host="127.0.0.1"),
    # dates
    "dates: ended a day ago": ours(**at(-9, -1)),
    "dates: ended a minute ago": ours(begin=NOW - DAY, end=NOW - timedelta(minutes=1)),
    "dates: ended in 2001": ours(**at(-9900, -9000)),
    "dates: begins tomorrow": ours(**at(1, 9)),
    "dates: ends before it begins": ours(**at(-1, -1)),
    "dates: intermediate ended": chained(at(-9, -1)),
    "dates: intermediate begins tomorrow": chained(at(1, 9)),
    "dates: anchor ended": signed(
        lambda: root(end=NOW - DAY / 2), anchor=lambda: root(end=NOW - DAY / 2)
    ),
    # chains
    "chain: another CA": signed(foreign),
    "chain: another CA of our CA's name": signed(namesake),
    "chain: another CA, with our CA's certificate behind": Case(with_true_root),
    "chain: signs itself": signed(lambda: None),
    "chain: signature damaged": Case(tampered),
    "chain: intermediate missing": Case(missing_intermediate),
    "chain: below a server's certificate": chained({"ca": False}),
    "chain: longer than the CA allows": chained(
        {}, {}, anchor=functools.partial(root, path_length=0)
    ),
    "chain: twelve intermediates": Case(lambda: long_chain(12)),
    "chain: 64 KiB": Case(lambda: issue([HOST], root(), padding=65_536), "OFFLINE", slow=True),
    "chain: 15 KB": Case(lambda: issue([HOST], foreign(), padding=15_000), slow=True),
    # constraints
    "constraints: ours excluded": constrained(False, excluded=HOST),
    "constraints: others permitted": constrained(False, permitted="other.example"),
    "constraints: others permitted, critical": constrained(True, permitted="other.example"),
    "constraints: unknown critical extension": ours(unknown_critical=True),
    # usages
    "usage: for clients": ours(usage=["client"]),
    "usage: for mail": ours(usage=["email"]),
    "usage: for anything, but not for servers": ours(usage=["any"]),
    "usage: intermediate that may not sign": chained({"key_usage": False}),
    # keys and hashes
    "key: RSA-1024": ours(key="rsa1024"),
    "key: RSA-2040": ours(key="rsa2040"),
    "key: P-224": ours(key="p224", words=""),
    "key: intermediate RSA-1024": chained({"key": "rsa1024"}),
    "key: anchor RSA-1024": signed(lambda: root("rsa1024"), anchor=lambda: root("rsa1024")),
    "hash: MD5": signed(rsa_root, anchor=rsa_root, hash="md5"),
    "hash: SHA-1": signed(rsa_root, anchor=rsa_root, hash="sha1"),
    "hash: SHA-224": ours(hash="sha224"),
    "hash: intermediate SHA-1": chained({"hash": "sha1", "key": "rsa2048"}, anchor=rsa_root),
    # versions and suites
    "TLS 1.0 only": versions(TLS_1_0, TLS_1_0),
    "TLS 1.1 only": versions(TLS_1_1, TLS_1_1),
    "TLS 1.3 only": versions(TLS_1_3, TLS_1_3),
    "suites: without forward secrecy": suites("kRSA"),
    "suites: without a certificate": suites("aNULL"),
    "suites: without encryption": suites("eNULL"),
    # the wire
    "no TLS: CONNACK at once": says(b"\x20\x02\0\0", slow=True),
    "no TLS: CONNACK to the hello": Case(lambda: None, "OFFLINE", slow=True),
    "no TLS: HTTP": says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    "no TLS: 64 KB of garbage": says(bytes(range(256)) * 256),
    "record: 65,535 bytes announced": says(RECORD + b"\xff\xff" + bytes(2000), slow=True),
    "record: 10,000 empty ones": says(RECORD + b"\0\0" + (RECORD + b"\0\0") * 9_999, slow=True),
    "record: a hundred HelloRequests": says((RECORD + b"\0\4\0\0\0\0") * 100, slow=True),
    "record: application data before the handshake": says(b"\x17\x03\x03\0\4\x20\x02\0\0"),
    "record: a ServerHello of 16 MiB": says(
        RECORD + b"\x3f\xf0\x02\xff\xff\xff" + bytes(16_000), slow=True
    ),
    "record: warnings for ever": says(b"\x15\x03\x03\0\2\1\x5a" * 1000, slow=True),
    "record: a fatal alert": says(b"\x15\x03\x03\0\2\2\x28"),
    "record: truncated": shaped(cut, slow=True),
    "record: a bit turned over": shaped(flipped, words="", slow=True),
    "record: all twice": shaped(twice, slow=True),
    "record: out of order": shaped(backwards),
    "stall: before the first byte": Case(
        lambda: None, "OFFLINE", server={"silent": True}, slow=True
    ),
    "stall: before ServerHello": shaped(never, slow=True),
    "stall: after the first record": shaped(first_record, slow=True),
    "drip: a byte a second": shaped(drip, slow=True),
}
HONEST = {
    "P-256": ours(words=""),
    "P-384": signed(lambda: root("p384"), anchor=lambda: root("p384"), key="p384", hash="sha384"),
    "P-521 below P-256": ours(key="p521", hash="sha512"),
    "RSA-2048": signed(rsa_root, anchor=rsa_root, key="rsa2048"),
    "RSA-3072": ours(key="rsa3072"),
    "P-256 below RSA-2048": signed(rsa_root, anchor=rsa_root),
    "one intermediate": chained({}),
    "two intermediates, RSA and EC": chained({"key": "rsa2048"}, {}),
    "an address": named("127.0.0.1", "localhost", host="127.0.0.1"),
    "a name among others": named("a.example", "127.0.0.1", *NAMES),
    "upper case": named("BROKER.Example", "localhost"),
    "a wildcard": named("*.home.example", "localhost", host="lamp.home.example"),
    "no extended usage": ours(usage=()),
    "for servers and clients": ours(usage=["client", "server"]),
    "no common name that says anything": named(*NAMES, common_name="other.example"),
}


@pytest.fixture
def devices(tmp_path):
    """`devices(anchor, *"host:port")` -> Device, enrolled there."""
    made = []

    def make(anchor, *servers, profile="binary", port=None):
        settings = SimpleNamespace(
            profile=profile, given=False, server=servers[0], verifier=accounts.verifier
        )
        place = SimpleNamespace(settings=settings)
        name = f"lamp-{len(made)}"
        device = Device(
            tmp_path / name, place, name, servers=servers, anchor=anchor.der, port=port
        )
        made.append(device)
        return device

    yield make
    for device in made:
        device.kill()


def first(port):
    """The first line of a device's sketch."""
    return FIRST + (CLOCK.format(now=int(time.time())) if port else "")


SAMPLE = (  # of what make test runs on the sockets of the ports; all in make test-slow
    "name: another",
    "dates: ended a minute ago",
    "chain: another CA",
    "TLS 1.3 only",
    "record: out of order",
    "stall: before the first byte",
)
RUNS = [pytest.param(None, name, id=name) for name in CASES] + [
    pytest.param(port, name, id=f"{port} {name}", marks=() if name in SAMPLE else pytest.mark.slow)
    for port in PORTS
    for name in CASES
]


@pytest.mark.parametrize(("port", "name"), RUNS)
def test_hostile(port, name, devices, record_property):
    case = CASES[name]
    with Server(case.make(), **case.server) as server:
        device = devices(case.anchor(), f"{case.host}:{server.port}", port=port)
        device.run(SKETCH.format(eager=case.slow), first=first(port))
        failed = device.wait("failed", timeout=60)
        if not case.slow:  # nor at the second try
            device.answer()
            device.wait("failed", timeout=60)
    seconds = failed["at"] / 1000
    password = device.password.reveal()
    record_property(
        "hostile",
        [
            name,
            port or "desktop",
            str(arrived(server, password)),
            f"{seconds:.0f}",
            failed["line"],
        ],
    )
    assert server.seen, "it did not come"
    assert arrived(server, password) == 0
    assert not any(one.plain and one.done for one in server.seen), "it said something"
    assert failed["line"].startswith(case.words or ("UNTRUSTED", "OFFLINE"))
    assert len(failed["line"].partition(": ")[2].encode()) <= 200
    assert seconds <= LEFT_S


HONEST_RUNS = [pytest.param(None, name, id=name) for name in HONEST] + [
    pytest.param(
        port, name, id=f"{port} {name}", marks=() if name == "P-256" else pytest.mark.slow
    )
    for port in PORTS
    for name in HONEST
]


@pytest.mark.mosquitto
@pytest.mark.parametrize(("port", "name"), HONEST_RUNS)
def test_honest(port, name, devices, broker_factory, record_property):
    """The same device at a real broker, with a certificate of the same factory."""
    case = HONEST[name]
    broker = broker_factory("mosquitto", start=False)
    identity = case.make()
    contents = {
        "ca.crt": case.anchor().chain_pem,
        "server.crt": identity.chain_pem,
        "server.key": identity.key_pem,
    }
    for file, content in contents.items():
        (broker.settings.folder / file).write_bytes(content)
    device = devices(case.anchor(), f"{case.host}:{broker.settings.port}", port=port)
    broker.start()
    assert brokers.sync(broker.settings, [device.account], force=True)
    device.run(SKETCH.format(eager=False), first=first(port))
    up = device.wait("up", timeout=60)
    record_property(
        "hostile",
        [
            "honest: " + name,
            port or "desktop",
            "logged in",
            f"{up['at'] / 1000:.0f}",
            "ONLINE",
        ],
    )


@pytest.mark.parametrize("profile", ["binary", "text"])
def test_the_recorder_sees_a_password(profile, devices):
    """The control: at the right server the password is seen, so a 0 above means something."""
    with Server(issue([HOST], root())) as server:
        device = devices(root(), f"{HOST}:{server.port}", profile=profile)
        device.run(SKETCH.format(eager=True), first=FIRST)
        device.wait("failed", timeout=60)  # it never acknowledges a subscription
        password = device.password.reveal()
        assert arrived(server, password) == len(password)


STALLS = {
    "silent from the start": CASES["stall: before the first byte"],
    "silent within the handshake": CASES["stall: after the first record"],
    "a byte a second in the handshake": CASES["drip: a byte a second"],
    "no CONNACK": Case(lambda: issue([HOST], root()), "OFFLINE", server={"answer": b""}),
}
TICKING = """
ticks = []

async def tick():
    while True:
        ticks.append(clock.now())
        await asyncio.sleep_ms(500)
"""


@pytest.mark.parametrize("name", STALLS)
def test_other_tasks_run_while_a_server_stalls(name, devices, record_property):
    """It is left 60 s after the SYN; until then a task of the sketch runs every half second."""
    case = STALLS[name]
    sketch = TICKING + SKETCH.format(eager=True)
    sketch = sketch.replace("    c.start()", "    asyncio.create_task(tick())\n    c.start()")
    sketch = sketch.replace('ask("failed", line=line)', 'ask("failed", line=line, ticks=ticks)')
    with Server(case.make(), **case.server) as server:
        device = devices(case.anchor(), f"{case.host}:{server.port}")
        device.run(sketch, first=FIRST)
        failed = device.wait("failed", timeout=60)
    ticks = [*failed["ticks"], failed["at"]]
    gap = max(b - a for a, b in itertools.pairwise(ticks))
    words = f"left after {failed['at'] / 1000:.1f} s; {len(ticks)} turns of a task, {gap} ms apart"
    record_property("measured", f"a server, {name}: {words} at most")
    assert failed["line"].startswith("OFFLINE: no login within 60 s")
    assert 59_000 <= failed["at"] <= 61_500
    assert len(ticks) > 100 and gap <= 1_000


REFUSALS = """
import gc

def collected():
    gc.collect()
    return gc.mem_alloc()
"""


def arrived(server, password):
    """How many bytes of the password in a row reached a server, in clear or inside TLS.

    Below four it would be chance.
    """
    streams = [bytes(s) for one in server.seen for s in (one.wire, one.plain)]
    for n in range(len(password), 3, -1):
        if any(password[i : i + n] in s for i in range(len(password) - n + 1) for s in streams):
            return n
    return 0


def refuse(count, devices):
    """Bytes of Python's heap and of the process that `count` refused handshakes leave."""
    identities = [
        issue([HOST], root(), **at(-9, -1)),
        issue([HOST], foreign()),
        issue(["other.example"], root()),
        issue([HOST], root(), usage=["client"]),
    ]
    sketch = SKETCH.replace('ask("failed", line=line)', 'ask("failed", heap=collected())')
    servers = [Server(one) for one in identities]
    try:
        for server in servers:
            server.__enter__()
        device = devices(root(), *(f"{HOST}:{server.port}" for server in servers))
        device.run(textwrap.dedent(REFUSALS) + sketch.format(eager=False), first=FIRST)
        marks = []
        for k in range(count // len(servers)):
            found = device.wait("failed", timeout=60)
            if k in (4, count // len(servers) - 1):
                resident = Path(f"/proc/{device.process.pid}/statm").read_text().split()[1]
                marks.append((found["heap"], int(resident) * 4096))
            device.answer()
        assert sum(len(server.seen) for server in servers) >= count
        assert not any(server.plain for server in servers)
    finally:
        for server in servers:
            server.__exit__()
    return marks[1][0] - marks[0][0], marks[1][1] - marks[0][1]


def hold_memory(count, devices, record_property):
    heap, resident = refuse(count, devices)
    words = f"{count} refused handshakes left {heap} bytes of heap, {resident} of the process"
    record_property("measured", words)
    assert heap <= 256 and resident <= 64 * 1024


def test_refused_handshakes_leave_no_memory(devices, record_property):
    hold_memory(60, devices, record_property)


@pytest.mark.slow
def test_300_refused_handshakes_leave_no_memory(devices, record_property):
    hold_memory(300, devices, record_property)
