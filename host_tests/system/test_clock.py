"""Every wrong clock that a board may wake with, and every lie about the time, on MicroPython.

A device whose clock says X logs in at a server while time servers and broker tell the truth, lie
or are silent. Whatever they say: no certificate is taken that ended before the floor; with honest
time servers none that has ended; and once the liar has gone the device is online again, untouched.
Each run writes a line of the table at the end. mbedTLS and the library see the same clock
(rig/clocks.py); waits take no time (device/warp.py).
"""

import functools
import json
import threading
import time
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from limpet_kit import presence
from limpet_kit.attack.behaviours import serve
from limpet_kit.attack.certificates import DAY, issue
from limpet_kit.attack.server import Server
from limpet_kit.broker import accounts
from rig.device import Device

DAY_S = 86_400
NOW = datetime.now(timezone.utc).replace(microsecond=0)
FLOOR = -400  # the device was made then: its anchor begins; all in days from now
YEARS_5 = 5 * 365 * DAY_S
CLOCKS = {
    "1970": datetime(1970, 1, 1, tzinfo=timezone.utc),
    "2000": datetime(2000, 1, 1, tzinfo=timezone.utc),
    "2021": datetime(2021, 1, 1, tzinfo=timezone.utc),
    "right": NOW,
    "2106": datetime(2106, 2, 7, tzinfo=timezone.utc),
}
# By how many seconds the time servers are wrong; forged so that floor and ceiling let it pass.
SERVERS = {"honest": 0, "silent": None, "forged forward": YEARS_5, "forged backward": -300 * DAY_S}
BROKER = "honest, broker lies"
CERTIFICATES = {  # begin and end, in days
    "ended before the floor": (-600, -500),
    "ended before now": (-399, -100),
    "ours": (FLOOR, 400),
    "ours, new": (-10, 400),
}
TRIES = 4  # a device that refused this often, the clock put right in between, goes on refusing
SAMPLE = {  # what make test runs of the matrix
    ("1970", "honest", "ended before now"),
    ("2000", "forged backward", "ended before the floor"),
    ("2021", "forged forward", "ours"),
    ("2106", "honest", "ours, new"),
    ("2106", "silent", "ended before the floor"),
}
FIRST = "import warp; warp._PATIENCE_MS = 250; import rtc; from warp import ask, clock"
SKETCH = """
from limpet import clock as calendar

def log(line):
    if line.startswith(("OFFLINE", "REFUSED", "UNTRUSTED")):
        ask("failed", line=line, date=calendar.date(calendar.now()))
    elif line.startswith("ONLINE"):
        say("up", date=calendar.date(calendar.now()), line=line)
    else:
        say("log", line=line)

c = client(log=log, time_servers={servers})
clock.eager = {eager}

async def main():
    c.start()
    while True:
        await asyncio.sleep(60)

asyncio.run(main())
"""


@functools.cache
def root():
    """The device's anchor."""
    return issue(ca=True, common_name="Our CA", begin=NOW + FLOOR * DAY, end=NOW + 3650 * DAY)


class Broker(Server):
    """A broker of which the test says what it proves itself with, and what it says of the time."""

    def identify(self, begin, end):
        """Take a certificate of our CA with these dates, in days from now."""
        self.show(issue(["localhost"], root(), begin=NOW + begin * DAY, end=NOW + end * DAY))

    def say(self, *times):
        """Tell the next one that is online these times, retained and live; `ended` is then to be
        set, and ends the connection. The next ones are served."""
        said = b"".join(_time(t, retained) for t in times for retained in (1, 0))
        ended = threading.Event()

        def then(peer):
            peer.send(said)
            ended.wait(60)
            peer.end()

        self.behaviours = [lambda peer: serve(peer, then=then), serve]
        return ended


def _time(seconds, retained):
    topic = b"limpet/time"
    body = len(topic).to_bytes(2, "big") + topic + int(seconds).to_bytes(8, "big")
    return bytes((0x30 | retained, len(body))) + body


@pytest.fixture
def broker():
    with Broker(issue(["localhost"], root()), behaviours=[serve]) as server:
        yield server


@pytest.fixture
def device(tmp_path, broker):
    place = SimpleNamespace(
        settings=SimpleNamespace(
            profile="binary", given=False, server="", verifier=accounts.verifier
        )
    )
    servers = [f"localhost:{broker.port}"]
    made = Device(tmp_path / "lamp-1", place, "lamp-1", servers=servers, anchor=root().der)
    yield made
    made.kill()


class Run:
    """One start of the device, at a clock, under time servers."""

    def __init__(self, device, clock, servers, board, kind):
        self.device, self.servers = device, servers
        servers.wrong = SERVERS.get(kind, 0)
        clock.set(CLOCKS[board].timestamp() if board != "right" else time.time())
        eager = servers.wrong is None  # silence is to be waited for
        device.run(SKETCH.format(servers=servers.names, eager=eager), first=FIRST)
        self.words = []

    def follow(self, count):
        """Until it is online (True), or was not `count` times in a row (False)."""
        for left in range(count, 0, -1):
            event = self.device.wait_any("up", "failed", timeout=60)
            self.words.append(event["line"] + f" (clock {event['date']})")
            if event["event"] == "up":
                return True
            if left > 1:
                self.go_on()
        return False

    def go_on(self):
        """The device stands still after a failure until this."""
        self.device.answer()


MATRIX = [
    pytest.param(
        board, kind, name, marks=() if (board, kind, name) in SAMPLE else pytest.mark.slow
    )
    for board in CLOCKS
    for kind in [*SERVERS, BROKER]
    for name in CERTIFICATES
]


@pytest.mark.parametrize(("board", "kind", "name"), MATRIX)
def test_matrix(board, kind, name, device, broker, ticking, time_servers, record_property):
    clock = ticking(device)
    lies = kind == BROKER
    if lies:  # once, while the device trusts it: the year 2100, and what it would believe at most
        broker.identify(-1, 300)
        ended = broker.say(datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp(), _day(299.5))
        told = Run(device, clock, time_servers, "right", "honest")
        assert told.follow(1)
        device.wait("log", line="the kit's time")
        ended.set()
        device.wait("failed", line="OFFLINE")
        told.go_on()
        assert told.follow(TRIES), "the server it was online at before the lie"
        device.kill()
    broker.identify(*CERTIFICATES[name])
    run = Run(device, clock, time_servers, board, kind)
    taken = run.follow(TRIES)
    what = "online" if taken else "refused"
    if not taken:
        time_servers.wrong = 0
        broker.identify(-1, 500)
        run.go_on()
        assert run.follow(TRIES), run.words
        what += ", online once the liar has gone"
    record_property("clock", [board, kind, name, f"{what}: {run.words[0]}"])
    if name == "ended before the floor":
        assert not taken, run.words
    if name == "ended before now" and kind in ("honest", BROKER):
        assert not taken, run.words
    if name.startswith("ours"):
        assert taken or kind not in ("honest", BROKER), run.words
    if name == "ours":
        assert taken or kind != "silent", run.words


def _day(days):
    return (NOW + days * DAY).timestamp()


@pytest.mark.parametrize(("days", "warned"), [(59, True), (90, False)])
def test_the_days_left_are_told_and_warned_of(days, warned, device, broker):
    broker.identify(-1, days + 0.5)
    device.run(SKETCH.format(servers=[], eager=False), first=FIRST.replace("import rtc; ", ""))
    said = device.wait("up")["line"]
    assert said == (
        "ONLINE: the certificate of the server ends in 59 days" if warned else "ONLINE"
    )
    end = time.monotonic() + 10
    while not (told := [p for topic, p, _ in broker.published if topic.endswith("/state")]):
        assert time.monotonic() < end
        time.sleep(0.01)
    state = json.loads(told[0])
    assert (state["anchor_days"], state["server_days"]) == (3649, days)
    words = presence.in_words(told[0])
    assert words.endswith(f"its server's certificate ends in {days} days") == warned


CONTROL = """
import socket, sys, tls
import warp, rtc
from limpet import clock

def look():
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    with open(sys.argv[1], "rb") as f:
        context.load_verify_locations(f.read())
    s = socket.socket()
    s.connect(socket.getaddrinfo("127.0.0.1", int(sys.argv[2]))[0][-1])
    try:
        context.wrap_socket(s, server_hostname="localhost")
        print("right")
    except ValueError as e:
        print(str(e).strip())
    s.close()

for t in sys.argv[3:]:
    clock.set_to(int(t))
    assert abs(clock.now() - int(t)) < 2
    look()
"""


def test_mbedtls_sees_the_clock_that_the_library_sets(device, broker, ticking, tmp_path):
    """The control: without a callback of ours, so that the dates are judged by mbedTLS alone."""
    ticking(device)
    broker.identify(-10, 400)
    anchor, script = tmp_path / "anchor.der", tmp_path / "control.py"
    anchor.write_bytes(root().der)
    script.write_text(CONTROL)
    times = [str(int(_day(days))) for days in (-20, 0, 500)]
    done = device.execute(script, anchor, broker.port, *times)
    future, right, ended = done.stdout.splitlines()
    assert "starts in the future" in future and right == "right" and "expired" in ended
