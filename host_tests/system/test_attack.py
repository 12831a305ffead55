"""`limpet attack`: Limpet holds in every case; what umqtt does without verifying is named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from limpet_kit import ca, sim
from limpet_kit.attack import trial
from limpet_kit.attack.cases import World, cases
from limpet_kit.board import Board
from limpet_kit.errors import KitError
from limpet_kit.watch import Watch
from rig.sim import interruptible

WEAK = """
import network, time
from umqtt.simple import MQTTClient
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.connect("simulated", "")
while True:
    try:
        c = MQTTClient("lamp", "127.0.0.1", {port}, "lamp", "correct horse", ssl=True)
        c.connect()
        while True:
            c.publish(b"t", b"1")
            time.sleep(1)
    except Exception as e:
        print("again", repr(e))
    time.sleep(0.5)
"""


GIVES_UP = """
import network, socket, ssl, time
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.connect("simulated", "")
with open("/ca.der", "rb") as f:
    anchor = f.read()
checked = ssl.CERT_REQUIRED
while True:
    try:
        raw = socket.socket()
        raw.connect(("127.0.0.1", {port}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_mode = checked
        if checked:
            context.load_verify_locations(cadata=anchor)
        link = context.wrap_socket(raw, server_hostname="127.0.0.1")
        link.write(b"\\x10\\x16\\x00\\x04MQTT\\x04\\x80\\x00\\x3c\\x00\\x04lamp\\x00\\x04lamp")
        if link.read(4) == b"\\x20\\x02\\x00\\x00":
            while link.read(1):
                pass
    except (OSError, ValueError):
        checked = ssl.CERT_NONE
    raw.close()
    time.sleep(1.5)
"""


FRAIL = """
import network, socket, ssl, time
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
wlan.connect("simulated", "")
while True:
    try:
        raw = socket.socket()
        raw.connect(("127.0.0.1", {port}))
        link = ssl.wrap_socket(raw)
        break
    except OSError:
        time.sleep(0.3)
link.write(b"\\x10\\x16\\x00\\x04MQTT\\x04\\x80\\x00\\x3c\\x00\\x04lamp\\x00\\x04lamp")
print(link.read(4))
if link.read(1) == b"\\xff":
    raise ValueError("this is no MQTT")
while True:
    time.sleep(1)
"""


@pytest.fixture
def attack(tool, tmp_path):
    """`attack(port, folder, *options)` -> (exit code, the JSON object, JUnit's root)."""

    def run(port, folder, *options):
        junit = tmp_path / "attack.xml"
        options = ("--broker", folder, "--json", "--junit", junit, *options)
        done = tool("limpet", "attack", port, *options, check=False, timeout=280)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), ElementTree.parse(junit).getroot()

    return run


QUICK = (
    *("other-ca", "other-name", "expired", "no-tls", "garbage", "forged-set", "lying-time"),
    *("reset", "drip", "ntp-ahead"),
)


@pytest.fixture
def lamp(sim_factory, broker_factory, tool):
    """An enrolled board that is online: (port, broker)."""
    board, broker = sim_factory(), broker_factory()
    folder = broker.settings.folder
    tool("limpet", "up", f"sim:{board.name}", "--broker", folder, "--json", timeout=60)
    return f"sim:{board.name}", broker


@pytest.mark.parametrize("only", [QUICK, pytest.param((), marks=pytest.mark.slow)])
def test_limpet_holds_in_every_case(lamp, attack, only, record_property):
    port, broker = lamp
    stay = ("--stay", "0.3")  # our device comes back after a minute, whatever it is shown
    code, report, junit = attack(
        port, broker.settings.folder, *stay, *(("--only", *only) if only else ())
    )
    count = str(len(only) or 24)
    verdicts = {one["case"]: one["verdict"] for one in report["cases"]}
    assert set(verdicts.values()) == {"held"}, report
    assert code == 0 and report["ok"] and str(len(verdicts)) == count
    assert sum(one["said"] for one in report["cases"]) == 0
    assert all(0 < one["back_s"] < 75 for one in report["cases"])
    assert (junit.get("tests"), junit.get("failures"), junit.get("skipped")) == (count, "0", "0")
    assert all(one["sent"] for one in report["cases"])
    sims = [one for one in report["cases"] if one["case"].startswith("ntp")]
    assert all(not one["why"] for one in sims)  # the lying time servers were asked
    assert broker.running()  # it was stopped meanwhile, and runs again


def test_a_program_that_gives_up_checking_is_named(sim_factory, broker_factory, attack):
    """It verifies first; where that fails it waits, and does without."""
    board, broker = sim_factory(), broker_factory(start=False)
    with Board(f"sim:{board.name}") as opened:
        opened.put("/ca.der", ca.anchor_der(broker.settings.folder))
        opened.put("/main.py", GIVES_UP.format(port=broker.settings.port).encode())
    _, report, _ = attack(
        f"sim:{board.name}", broker.settings.folder, "--account", "lamp", "--only", "other-ca"
    )
    (one,) = report["cases"]
    assert one["verdict"] == "fell" and "login" in one["why"]


def test_umqtt_with_ssl_true_is_named_weak(sim_factory, broker_factory, attack, umqtt):
    board, broker = sim_factory(), broker_factory(start=False)
    with Board(f"sim:{board.name}") as opened:
        opened.mkdir("/lib")
        opened.mkdir("/lib/umqtt")
        opened.put("/lib/umqtt/simple.py", (umqtt / "umqtt" / "simple.py").read_bytes())
        opened.put("/lib/ussl.py", b"from ssl import *\n")  # its name before 1.21
        opened.put("/main.py", WEAK.format(port=broker.settings.port).encode())
    code, report, junit = attack(
        f"sim:{board.name}",
        broker.settings.folder,
        *("--account", "lamp"),
        *("--only", "other-ca", "self-signed", "other-name", "expired", "no-tls"),
    )
    verdicts = {one["case"]: one["verdict"] for one in report["cases"]}
    assert code == 12
    assert verdicts == {
        "other-ca": "fell",
        "self-signed": "fell",
        "other-name": "fell",
        "expired": "fell",
        "no-tls": "held",
    }
    assert junit.get("failures") == "4"
    assert all("login" in one["why"] for one in report["cases"] if one["verdict"] == "fell")


def _trial(port, broker, *, account="lamp"):
    return trial.Trial(port, broker.settings, account=account)


def test_a_device_that_does_not_come_proves_nothing(lamp, sim_factory, monkeypatch):
    """Even where another board logs in at the same broker all the time."""
    _, broker = lamp
    idle = f"sim:{sim_factory().name}"
    with Board(idle) as opened:
        opened.put("/main.py", b"print('idle')\nwhile True:\n    pass\n")
    monkeypatch.setattr(trial, "COME_S", 4.0)
    with (
        _trial(idle, broker) as tried,
        pytest.raises(KitError, match=r"would prove nothing.*idle"),
    ):
        tried.control()
    assert broker.running()


def test_a_blank_board_is_told_what_it_lacks(lamp, sim_factory, attack, tool):
    _, broker = lamp
    blank = f"sim:{sim_factory().name}"
    options = ("--broker", broker.settings.folder)
    done = tool("limpet", "attack", blank, *options, check=False)
    assert done.returncode == 2 and b"--account" in done.stderr and broker.running()


def test_a_program_that_ends_has_fallen(sim_factory, broker_factory):
    """It logs in once, and whatever it then hears is its end."""
    board, broker = sim_factory(), broker_factory(start=False)
    port = f"sim:{board.name}"
    with Board(port) as opened:
        opened.put("/main.py", FRAIL.format(port=broker.settings.port).encode())
    with _trial(port, broker) as tried:
        tried.control()
        (case,) = [one for one in tried.cases() if one.name == "garbage"]
        result = tried.run(case)
    assert result.verdict == "fell" and "its program ended: ValueError" in result.why


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_however_it_ends_broker_and_device_run_again(lamp, number):
    port, broker = lamp
    options = ("--broker", broker.settings.folder, "--only", "refused", "expired")
    program = Path(sys.executable).with_name("limpet")
    process = subprocess.Popen(
        [program, "attack", port, *map(str, options)],
        stdout=subprocess.PIPE,
        env=os.environ,
        preexec_fn=interruptible,
    )
    assert b"honest server" in process.stdout.readline()
    try:  # in the middle of the refusal, after which a device would wait for an hour
        process.wait(4)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    assert process.wait(60) == 130
    assert broker.running()
    with Watch(broker.settings, "unit-1") as watch:
        assert watch.answers(20)
    world = json.loads((sim.find(port[4:]).folder / "settings.json").read_text())
    assert not {"address", "hosts", "ports"} & world.keys()


def test_cases_are_made_for_each_kind_of_ca(broker_factory):
    for rsa in (False, True):
        broker = broker_factory(start=False, rsa=rsa)
        made = cases(World.of(broker.settings))
        assert len({case.name for case in made}) == len(made) == 24
        for case in made:
            with case.server(("127.0.0.1", 0)) as server:
                assert server.port


def test_hostile_servers_stay_on_loopback_unless_told(broker_factory):
    broker = broker_factory(start=False, listen="192.0.2.9")
    with pytest.raises(KitError, match="--listen"):
        trial.Trial("sim:none", broker.settings)
