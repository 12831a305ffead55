"""Every sketch of firmware/examples on a simulated board with simulated parts."""

import json
from pathlib import Path

import pytest
from limpet_kit import bringup
from limpet_kit.board import Board
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan, look
from limpet_kit.secret import Secret
from limpet_kit.seriallog import SerialLog
from limpet_kit.wifi import Network
from rig.micropython import ROOT

EXAMPLES = ROOT / "firmware" / "examples"
NAME = "example-1"


@pytest.fixture
def run(sim_factory, broker_factory):
    """`run(sketch, board="SIM_RP2", **settings)`: a unit that runs it, as a `Running`."""
    opened = []

    def start(sketch, board="SIM_RP2", files=(), **around):
        made = sim_factory(board)
        made.configure(networks={"home": "a key of home"}, **around)
        broker = broker_factory("embedded")
        with Board(f"sim:{made.name}") as at:
            for path, content in files:
                at.mkdir(path.rpartition("/")[0])
                at.put(path, content)
        plan = Plan(
            networks=lambda: [
                Network(b"away", Secret(b"a key of away")),
                Network(b"home", Secret(b"a key of home")),
            ],
            name=NAME,
        )
        running = Running(made, broker, opened)
        bringup.bring_up(
            f"sim:{made.name}",
            broker.settings,
            plan,
            Console(),
            lambda name, words: None,
            goods=bringup.Goods(EXAMPLES / sketch),
            reading_s=0,
        )
        running.log = SerialLog(str(made.device)).__enter__()
        opened.append(running.log)
        return running

    yield start
    for thing in opened:
        thing.__exit__(None, None, None)


class Running:
    """A unit and a listener at its broker."""

    def __init__(self, board, broker, opened):
        self.board = board
        self.broker = broker
        self.kit = KitClient(broker.settings).__enter__()
        opened.append(self.kit)
        self.kit.subscribe("limpet/#")

    def command(self, name, payload):
        self.kit.publish(f"limpet/{NAME}/cmd/{name}", payload)

    def next(self, topic, timeout=20):
        """The next payload on a topic below limpet/."""
        found = self.kit.wait(lambda t, payload: t == f"limpet/{topic}", timeout)
        assert found, topic
        return found[1]


def test_every_sketch_is_tested_and_short():
    here = Path(__file__)
    tests = here.read_text() + here.with_name("test_smq.py").read_text()
    for sketch in EXAMPLES.glob("*.py"):
        lines = sketch.read_text().splitlines()
        assert len(lines) < 60 and f'("{sketch.name}"' in tests, sketch.name
        assert all(
            any(word in line for line in lines) for word in ("# Wiring", "# Boards", "# Run")
        )


def test_blink(run):
    unit = run("blink.py")
    unit.command("blink", b"2")
    assert unit.next(f"{NAME}/up/blinked") == b"2"


@pytest.mark.parametrize("board", ["SIM_RP2", "SIM_ESP32"])
def test_telemetry(run, board):
    unit = run("telemetry.py", board, dht={"4": [21.5, 48.0]})
    assert json.loads(unit.next(f"{NAME}/up/climate")) == {"celsius": 21.5, "percent": 48.0}


def test_button(run):
    unit = run("button.py", pins={"14": 1})
    unit.board.configure(pins={"14": 0})
    assert unit.next(f"panel/from/{NAME}/pressed") == b"1"
    unit.kit.publish(f"limpet/{NAME}/from/panel/seen", b"on")
    unit.board.configure(pins={"14": 1})


def test_forget(run):
    unit = run("forget.py", pins={"14": 1})
    unit.board.configure(pins={"14": 0})
    assert unit.log.wait("UNPROVISIONED", 25)
    unit.board.configure(pins={"14": 1})
    unit.log.__exit__(None, None, None)  # the port is for one
    with Board(f"sim:{unit.board.name}") as board:
        hello = look(board)
    assert hello.slots == () and hello.scrub_due


def test_relay(run):
    unit = run("relay.py")
    unit.command("relay", b"on")
    assert unit.next(f"{NAME}/up/relay") == b"on"
    unit.log.wait("relay on", 5)
    unit.broker.kill()
    assert unit.log.wait("relay off", 20) == "relay off"


def test_sleeper(run):
    unit = run("sleeper.py", adc={"28": 40000}, sleep_factor=10_000)
    assert unit.next(f"{NAME}/up/battery") == b"40000"  # a whole session first
    assert unit.next(f"{NAME}/up/battery") == b"40000"  # then, woken, a report alone


def test_networks(run):
    unit = run("networks.py", rssi=-50)
    assert unit.next(f"{NAME}/state")


@pytest.fixture
def umqtt_files(umqtt):
    return [(f"/lib/umqtt/{f.name}", f.read_bytes()) for f in (umqtt / "umqtt").glob("*.py")]


def test_blocking(run, umqtt_files):
    unit = run("blocking.py", files=umqtt_files, adc={"26": 30000})
    assert unit.next(f"{NAME}/up/level") == b"30000"
    unit.command("say", b"hello")
    assert "hello" in unit.log.wait("b'say'", 10)


def test_port_from_umqtt(run, umqtt_files):
    unit = run("port_from_umqtt.py", files=umqtt_files)
    unit.command("foo_topic", b"ping")
    assert unit.next(f"{NAME}/up/reply") == b"pong"
