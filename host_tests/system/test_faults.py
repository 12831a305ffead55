"""The client on the real MicroPython against everything that goes wrong on the way.

Time is the device's own (device/warp.py): pauses pass at once, in full length and with the real
random numbers, so nothing here is shortened. After each failure the device stands still until
the test says go on. Every case writes a line of the table at the end of the run.
"""

import random
import textwrap
import threading
import time
from pathlib import Path

import pytest
from limpet_kit.attack import behaviours as hostile
from limpet_kit.broker import server
from limpet_kit.broker.client import KitClient
from rig.device import Device

pytestmark = pytest.mark.mosquitto

FIRST = "from warp import ask, clock"
SKETCH = """
{before}
def log(line):
    say("log", line=line, at=clock.now())
    if HOLD and line.startswith(("OFFLINE", "REFUSED", "UNTRUSTED")):
        ask("failed", line=line, counts=c.counters.failures)

c = client(log=log, {options})
clock.eager = {eager}
HOLD = {hold}

async def main():
    c.start()
    await c.online()
    ask("up")
{body}

asyncio.run(main())
"""
TICK = """
while True:
    await c.publish("tick", b"1", qos=1)
    say("acknowledged", at=clock.now())
    await asyncio.sleep(5)
"""
IDLE = """
while True:
    await asyncio.sleep(60)
"""
LOGIN_S = 3.0  # what a login may take on a busy machine, besides waiting
ONCE_S = 2 + LOGIN_S  # the schedule after one failure
CAP_S = 300 + LOGIN_S  # after many
DEADLINE_S = 60 + 1


class Case:
    """One device in one kind of trouble, and what is written down about it."""

    def __init__(self, name, device, record):
        self.name = name
        self.device = device
        self._record = record
        self.begun = 0
        self._was_up = False

    def run(self, body=TICK, eager=False, hold=True, before="", options=""):
        """Start the device; `options` are Client's, as text."""
        text = SKETCH.format(
            before=before,
            body=textwrap.indent(body, "    "),
            eager=eager,
            hold=hold,
            options=options,
        )
        self.device.run(text, first=FIRST)
        return self

    def up(self):
        """Wait until it is online for the first time; it stands still then."""
        self.begun = self.device.wait("up", timeout=60)["at"]
        self._was_up = True

    def go(self):
        """Let it go on."""
        self.device.answer()

    def failures(self, count, words=""):
        """Let it fail so many times; it stands still at the last one. (first, last)"""
        first = found = None
        for k in range(count):
            if k:
                self.go()
            found = self.device.wait("failed", line=words, timeout=60)
            first = first or found
        return first, found

    def back(self, first, last, noticed_s, back_s):
        """Mended: it must be back `back_s` after the last failure; writes the line."""
        self.go()
        online = self.device.wait("log", line="ONLINE", timeout=60)
        noticed = (first["at"] - self.begun) / 1000
        back = (online["at"] - last["at"]) / 1000
        tries = sum(last["counts"].values())
        self.write(noticed, noticed_s, tries, back, back_s, first["line"])
        assert noticed <= noticed_s and back <= back_s
        if not self._was_up:
            self.device.wait("up")
            self.go()
        return online

    def write(self, noticed, noticed_s, tries, back, back_s, words):
        """One line of the table; None where a column has no meaning."""
        cells = (noticed, noticed_s, tries, back, back_s)
        cells = ["-" if v is None else f"{v:.1f}".removesuffix(".0") for v in cells]
        self._record("faults", [self.name, *cells, words])


@pytest.fixture
def proxied(broker_factory, proxy_factory, device_factory, record_property, request):
    """`proxied(name)` -> (case, proxy): a device behind a proxy before Mosquitto."""

    def make(name):
        broker = broker_factory("mosquitto")
        proxy = proxy_factory(broker)
        device = device_factory(broker, servers=[f"127.0.0.1:{proxy.port}"])
        return Case(name, device, record_property), proxy

    return make


@pytest.fixture
def attacked(hostile_factory, tmp_path, record_property):
    """`attacked(name, *behaviours)` -> (case, server): a device at a server of ours."""
    devices = []

    def make(name, *behaviours):
        attacker = hostile_factory(*behaviours)
        where = f"127.0.0.1:{attacker.settings.port}"
        device = Device(tmp_path / "lamp-1", attacker, "lamp-1", servers=[where])
        devices.append(device)
        return Case(name, device, record_property), attacker

    yield make
    for device in devices:
        device.kill()


# -- nobody is there


def test_refused_from_the_start(proxied):
    case, proxy = proxied("connection refused, three times")
    proxy.refuse()
    case.run()
    first, last = case.failures(3)
    proxy.listen()
    case.back(first, last, LOGIN_S, 60 + LOGIN_S)


NO_NAME = """
from limpet import resolve

def look_up(host, port):
    if c.counters.failures.get("DNS", 0) < 3:
        raise OSError(-2)
    return working(host, port)

working = resolve._info
resolve._info = look_up
"""


def test_the_name_is_not_known(proxied):
    case, _ = proxied("name look-up fails, three times")
    case.run(before=NO_NAME)
    first, last = case.failures(3, "OFFLINE: the name")
    case.back(first, last, LOGIN_S, 60 + LOGIN_S)


def test_accepted_in_silence(proxied):
    case, proxy = proxied("connection accepted, silence")
    proxy.silent = True
    case.run(eager=True)
    first, last = case.failures(1)
    proxy.silent = False
    case.back(first, last, DEADLINE_S, ONCE_S)


def test_silence_in_the_handshake(proxied):
    case, proxy = proxied("silence in the TLS handshake")
    proxy.freeze("down")
    case.run(eager=True)
    first, last = case.failures(1)
    proxy.cut()
    proxy.thaw()
    case.back(first, last, DEADLINE_S, ONCE_S)


def test_one_byte_a_second_in_the_handshake(proxied):
    case, proxy = proxied("one byte a second in the TLS handshake")
    proxy.slice, proxy.pace = 1, 0.15  # more than warp's patience: a second each, for the device
    case.run(eager=True)
    first, last = case.failures(1)
    proxy.slice, proxy.pace = None, 0.0
    proxy.cut()
    case.back(first, last, DEADLINE_S, ONCE_S)


# -- the session ends


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_cut(reset, proxied):
    case, proxy = proxied(f"{'RST' if reset else 'FIN'} in mid-session")
    case.run().up()
    proxy.cut(reset)
    case.go()
    first, last = case.failures(1)
    case.back(first, last, 1, ONCE_S)
    case.device.wait("acknowledged")


QUIET = """
await c.publish("first", b"", qos=1)  # what a login sends is acknowledged before it, too
ask("quiet")
"""
HALF_OPEN = {
    "idle": IDLE,
    "publishing QoS 0": """
while True:
    await c.publish("tick", b"1")
    await asyncio.sleep(5)
""",
    "publishing QoS 1": TICK,
}


@pytest.mark.parametrize("doing", HALF_OPEN)
def test_half_open(doing, proxied):
    case, proxy = proxied(f"half-open, {doing}, keep-alive 60 s")
    case.run(QUIET + HALF_OPEN[doing], eager=True).up()
    case.go()
    case.begun = case.device.wait("quiet")["at"]
    proxy.freeze()
    case.go()
    first, last = case.failures(1)
    proxy.cut()
    proxy.thaw()
    case.back(first, last, 90, ONCE_S)


def test_broker_restart(proxied):
    case, _ = proxied("broker killed and started again")
    case.run().up()
    broker = case.device.broker
    broker.kill()
    case.go()
    first, last = case.failures(1)
    broker.start()
    case.back(first, last, 1, ONCE_S)
    case.device.wait("acknowledged")


def test_broker_away_for_an_hour(proxied):
    case, _ = proxied("broker away for an hour")
    case.run().up()
    broker = case.device.broker
    broker.kill()
    case.go()
    first, last = case.failures(1)
    while last["at"] - first["at"] < 3_600_000:
        case.go()
        last = case.device.wait("failed", timeout=60)
    # Over 60 tries an hour would be hammering, under 12 would be sleeping.
    assert 12 <= sum(last["counts"].values()) <= 60
    broker.start()
    case.back(first, last, 1, CAP_S)
    case.device.wait("acknowledged")


# -- the server says no


@pytest.mark.parametrize("when", ["from the start", "after a session"])
@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_connack(code, when, attacked):
    no = hostile.connack(code)
    later = when == "after a session"
    # One connection is served and then ends, the next is answered with the code.
    before = [hostile.says(b"", ends=True)] if later else []
    case, _ = attacked(f"CONNACK {code}, {when}", *before, no, hostile.serve)
    case.run()
    if later:
        case.up()
        case.go()
        case.failures(1, "OFFLINE: the")
        case.go()
    refused = code in (4, 5)
    first, last = case.failures(1, "REFUSED" if refused else "OFFLINE")
    if later:
        case.begun = first["at"]
    if refused:
        online = case.back(first, last, LOGIN_S, 1.2 * 3600 + LOGIN_S)
        assert online["at"] - last["at"] >= 0.8 * 3_600_000
    else:
        case.back(first, last, LOGIN_S, 30 + LOGIN_S if later else ONCE_S)
    case.device.wait("acknowledged")


@pytest.mark.parametrize("reset", [True, False], ids=["RST", "FIN"])
def test_closed_after_connect_is_no_refusal(reset, attacked):
    gone = hostile.after_connect(reset)
    name = f"closed after CONNECT by {'RST' if reset else 'FIN'}, eight times"
    case, _ = attacked(name, *[gone] * 8, hostile.serve)
    case.run()
    first, last = case.failures(8, "OFFLINE")
    assert set(last["counts"]) == {"CLOSED_ON_LOGIN"}
    case.back(first, last, LOGIN_S, 900 + LOGIN_S)


def test_silence_instead_of_connack(attacked):
    case, _ = attacked("no CONNACK", hostile.answers(b""), hostile.serve)
    case.run(eager=True)
    first, last = case.failures(1)
    case.back(first, last, DEADLINE_S, ONCE_S)


def test_connack_byte_by_byte(attacked):
    case, attacker = attacked("CONNACK, one byte a second", hostile.drip_connack)
    case.run(eager=True).up()
    assert attacker.connections == 1  # slow is not lost
    case.write(None, None, 0, case.begun / 1000, 10, "online")
    assert case.begun <= 10_000


# -- the server says nonsense

NONSENSE = {
    "garbage instead of CONNACK": (hostile.answers(b"HTTP/1.1 400 Bad Request\r\n"), "CONNACK"),
    "garbage in mid-session": (hostile.says(bytes(range(240, 256)) * 8), "MALFORMED"),
    "a packet that claims 268,435,455 bytes": (
        hostile.says(b"\x30\xff\xff\xff\x7f\x00\x01a" + b"x" * 64),
        "TOO_BIG",
    ),
    "a length of five bytes": (hostile.says(b"\x30\xff\xff\xff\xff\x01\x00"), "MALFORMED"),
    "PUBLISH whose topic is longer than the packet": (
        hostile.says(b"\x30\x04\x7f\xffab"),
        "MALFORMED",
    ),
    "PUBACK of three bytes": (hostile.says(b"\x40\x03\x00\x02\x00"), "MALFORMED"),
    "a packet cut short, then the end": (hostile.says(b"\x30\x20\x00\x01ab", ends=True), "CLOSED"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense(what, attacked):
    behaviour, code = NONSENSE[what]
    case, _ = attacked(what, behaviour, hostile.serve)
    case.run()
    if "instead" not in what:
        case.up()
        case.go()
    else:
        code = "MALFORMED"
    first, last = case.failures(1)
    # What the server has not read when it closes makes TCP reset the connection.
    assert set(last["counts"]) <= ({code, "WRITE", "READ"} if code == "CLOSED" else {code})
    case.back(first, last, LOGIN_S, ONCE_S)
    case.device.wait("acknowledged")


def test_segments_of_one_byte(proxied):
    case, proxy = proxied("TCP segments of one byte, all the way")
    proxy.slice = 1
    case.run().up()
    assert proxy.accepted == 1
    case.go()
    case.device.wait("acknowledged")
    case.write(None, None, 0, case.begun / 1000, LOGIN_S, "online")
    assert case.begun <= LOGIN_S * 1000


def test_records_of_one_byte(attacked):
    case, attacker = attacked(
        "TLS records of one byte, all the way", lambda peer: hostile.serve(peer, slice=1)
    )
    case.run().up()
    case.go()
    case.device.wait("acknowledged")
    assert attacker.connections == 1
    case.write(None, None, 0, case.begun / 1000, LOGIN_S, "online")


def test_lost_puback(attacked):
    case, attacker = attacked(
        "PUBACK lost", lambda peer: hostile.serve(peer, lose_pubacks=1), hostile.serve
    )
    case.run(eager=True).up()
    case.go()
    first, last = case.failures(1)
    assert set(last["counts"]) == {"NO_ACK"}
    case.back(first, last, 24, ONCE_S)
    case.device.wait("acknowledged")
    ticks = [dup for topic, _, dup in attacker.published if topic.endswith("/tick")]
    assert ticks[:2] == [False, True]


FULL = """
async def beat():
    while True:
        await asyncio.sleep_ms(100)
        say("beat")

asyncio.create_task(beat())
for i in range(COUNT):
    if i == 20:
        ask("frozen")
    await c.publish("load", b"%06d" % i + b"x" * 4000)
say("sent")
await c.publish("last", b"", qos=1)
say("acknowledged")
await asyncio.sleep(3600)
"""


def test_full_send_buffer(proxied):
    """The link stops taking bytes in the middle of a burst of QoS 0, and goes on later: whole
    packets arrive, in order, none is lost, and the loop was not blocked meanwhile."""
    case, proxy = proxied("send buffer full, then room again")
    count = 2_000  # 8 MB, more than the loopback's buffers hold
    with KitClient(case.device.broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/up/+", 0)
        case.run(FULL.replace("COUNT", str(count))).up()
        case.go()
        case.device.wait("frozen")
        proxy.freeze("up")
        case.go()
        with pytest.raises(pytest.fail.Exception):
            case.device.wait("sent", timeout=1)  # it is stuck, as it should be
        beats = [line for line in case.device.seen if '"beat"' in line]
        assert len(beats) >= 5
        proxy.thaw()
        case.device.wait("sent", timeout=30)
        case.device.wait("acknowledged", timeout=30)
        numbers = []
        while found := kit.wait(lambda t, p: t.endswith("/load"), 0.5):
            numbers.append(int(found[1][:6]))
            assert len(found[1]) == 4006
    # The kit's own queue is bounded, so its oldest may be missing; what is there is in order.
    assert numbers and numbers[-1] == count - 1
    assert numbers == list(range(numbers[0], count))
    case.write(
        None,
        None,
        None,
        None,
        None,
        f"{len(numbers)} messages of 4 KB looked at: whole and in order",
    )


# -- many cuts

# Spread evenly instead of by chance, so that the median of ten is the schedule's own.
EVENLY = """
drawn = 0

def evenly():
    global drawn
    drawn += 1
    return sum([(drawn >> k & 1) << 23 - k for k in range(8)])
"""
MESSAGES = """
acks = []
for i in range(200):
    await c.publish("n", b"%d" % i, qos=1)
    acks.append(clock.now())
    await asyncio.sleep_ms(10)
gaps = sorted([b - a for a, b in zip(acks, acks[1:])])
say("done", gaps=gaps[-10:], connects=c.counters.connects)
await asyncio.sleep(3600)
"""


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
def test_two_hundred_messages_and_ten_cuts(clean, proxied):
    case, proxy = proxied(
        f"200 messages, 10 random cuts, {'clean' if clean else 'persistent'} session: a cut"
    )
    draw = random.Random(str(clean))
    at = sorted(draw.sample(range(5, 195), 10))
    seen = []
    with KitClient(case.device.broker.settings) as kit:
        kit.subscribe("limpet/lamp-1/up/n")
        case.run(MESSAGES, False, False, EVENLY, f"clean={clean}, random=evenly").up()
        case.go()
        while len(set(seen)) < 200:
            found = kit.wait(lambda t, p: t.endswith("/n"), 10)
            assert found, f"only {len(set(seen))} of 200 came\n{case.device.said()}"
            seen.append(int(found[1]))
            if at and seen[-1] >= at[0]:
                at.pop(0)
                if len(at) % 3 == 0:
                    proxy.freeze("down")  # what is acknowledged now is acknowledged in vain
                time.sleep(draw.uniform(0, 0.02))  # any moment, not always that of the delivery
                proxy.cut(draw.random() < 0.5)
                proxy.thaw()
        while found := kit.wait(lambda t, p: t.endswith("/n"), 0.3):
            seen.append(int(found[1]))
    done = case.device.wait("done")
    assert set(seen) == set(range(200))
    doubled = len(seen) - 200
    median = (done["gaps"][4] + done["gaps"][5]) / 2000
    words = f"0 lost, {doubled} doubled"
    case.write(None, None, done["connects"] - 1, median, 1.5, words)
    assert not at and done["connects"] >= 10
    assert doubled <= 5 and median <= 1.5


RECONNECTS = """
import gc
used = [0] * COUNT
for i in range(COUNT):
    await c.online()
    gc.collect()
    used[i] = gc.mem_alloc()
    while c.state == "ONLINE":
        await asyncio.sleep_ms(1)
grown = sorted([b - a for a, b in zip(used, used[1:])])
say("done", median=grown[len(grown) // 2], first=used[5], last=used[-1])
ask("counted")
"""


def reconnect(case, count):
    case.run(RECONNECTS.replace("COUNT", str(count)), hold=False).up()
    before = sockets(case.device.process.pid)
    case.go()
    done = case.device.wait("done", timeout=100)
    grown = done["last"] - done["first"]
    words = f"heap {grown:+d} B in all, sockets {sockets(case.device.process.pid) - before:+d}"
    case.write(None, None, count, None, None, words)
    assert done["median"] == 0
    assert grown < 500
    assert sockets(case.device.process.pid) <= before


def sockets(pid):
    """Open sockets of a process."""
    return sum("socket:" in str(f.readlink()) for f in Path(f"/proc/{pid}/fd").iterdir())


def test_reconnects_leak_nothing(attacked):
    case, _ = attacked("50 reconnects", hostile.says(b"", ends=True))
    reconnect(case, 50)


@pytest.mark.slow
def test_500_reconnects_leak_nothing(attacked):
    case, _ = attacked("500 reconnects", hostile.says(b"", ends=True))
    reconnect(case, 500)


# -- the account is refused

DAY_MS = 24 * 3_600_000


def logins(case, until_ms, start=0):
    """Times (ms) of the refused logins until then, the device's clock beginning at `start`."""
    times = []
    while True:
        found = case.device.wait("failed", line="REFUSED", timeout=60)
        times.append(start + found["at"])
        if times[-1] >= until_ms:
            return times
        case.go()


PENDING = """
import os
v = vault()
confirmed = v.records()[0]
v.write(1, confirmed.vault_id, os.urandom(32), bytes(confirmed.fields))
assert len(v.records()) == 2
"""


@pytest.mark.parametrize("when", ["from the start", "after a session", "beside a pending record"])
def test_a_refused_account_does_not_hammer(when, attacked):
    no = hostile.connack(5)
    before = [hostile.says(b"", ends=True)] if when == "after a session" else []
    case, attacker = attacked(f"account refused for a day, {when}", *before, no)
    pending = when == "beside a pending record"
    case.run(before=PENDING if pending else "")
    if before:
        case.up()
        case.go()
        case.failures(1, "OFFLINE")
        case.go()
    times = logins(case, DAY_MS)
    hour = sum(t < times[0] + 3_600_000 for t in times)
    day = sum(t < times[0] + DAY_MS for t in times)
    case.write(
        None, None, day, None, None, f"{hour} logins in the first hour, {day} in the first day"
    )
    assert hour <= (3 if pending else 2) and day <= 8
    attacker.behaviours.append(hostile.serve)  # restored: online at the next try, without help
    case.go()
    case.device.wait("log", line="ONLINE", timeout=60)


REBOOT = """
async def cut():
    await asyncio.sleep({})
    ask("failed", line="CUT")

asyncio.create_task(cut())
"""


@pytest.mark.parametrize("within", [False, True], ids=["at any time", "also within a login"])
def test_a_refused_account_does_not_hammer_across_power_cuts(within, attacked, request):
    """A board that resets every few minutes or hours, and whose clock begins anew each time."""
    how = request.node.callspec.id
    case, attacker = attacked(f"account refused, power cuts {how}", hostile.connack(5))
    draw = random.Random(how)
    begun = boots = seen = 0
    times = []
    while begun < DAY_MS:
        boots += 1
        if within and boots % 3 == 0:
            came = threading.Event()
            attacker.behaviours = [hostile.hold(came)]
            case.run(IDLE, hold=False)
            at = case.device.wait("log", line="CONNECTING", timeout=60)["at"]
            assert came.wait(10)
            times.append(begun + at)
            seen = attacker.connections
            attacker.behaviours = [hostile.connack(5)]
        else:
            case.run(IDLE, before=REBOOT.format(draw.randint(60, 10_000)))
            while (found := case.device.wait("failed", timeout=60))["line"] != "CUT":
                if attacker.connections > seen:  # not only told after a reset
                    times.append(begun + found["at"])
                seen = attacker.connections
                case.go()
            at = found["at"]
        begun += at
        case.device.kill()
    hour = sum(t < times[0] + 3_600_000 for t in times)
    day = sum(t < times[0] + DAY_MS for t in times)
    words = f"{hour} logins in the first hour, {day} in the first day, {boots} boots"
    case.write(None, None, day, None, None, words)
    assert boots > 5 and hour <= 2 and day <= 8


def test_a_real_broker_takes_the_account_back(proxied):
    case, _ = proxied("account removed and restored at Mosquitto")
    case.run().up()
    settings, account = case.device.broker.settings, case.device.account
    server.sync(settings, [], force=True)
    case.go()
    case.failures(1, "OFFLINE")
    case.go()
    first, last = case.failures(1, "REFUSED")
    case.begun = first["at"]
    server.sync(settings, [account], force=True)
    case.back(first, last, 1, 1.2 * 3600 + LOGIN_S)
    case.device.wait("acknowledged")
