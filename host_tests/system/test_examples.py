"""Every sketch of firmware/examples on a simulated board with simulated parts."""

import json
import queue
import struct
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from limpet_kit import bringup, cli, sim
from limpet_kit.board import Board
from limpet_kit.broker import settings
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan, look
from limpet_kit.secret import Secret
from limpet_kit.seriallog import SerialLog
from limpet_kit.wifi import Network
from paho.mqtt.enums import CallbackAPIVersion
from rig.micropython import ROOT

EXAMPLES = ROOT / "firmware" / "examples"
NAME = "example-1"


@pytest.fixture
def run(sim_factory, broker_factory):
    """`run(sketch, board="SIM_RP2", **settings)`: a unit that runs it, as a `Running`.

    On a broker of its own, of which `prepare(broker)` may change something first.
    """
    opened = []

    def start(
        sketch,
        board="SIM_RP2",
        files=(),
        kind="embedded",
        profile=None,
        wired=False,
        prepare=None,
        **around,
    ):
        made = sim_factory(board)
        made.configure(networks={} if wired else {"home": "a key of home"}, cable=wired, **around)
        broker = broker_factory(kind, profile=profile)
        if prepare:
            prepare(broker)
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
            wired=wired,
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

    def power_cycle(self):
        """Take the board's power away, and give it back."""
        self.log.__exit__(None, None, None)
        self.board.kill()
        self.board = sim.start(self.board.name)
        self.log = SerialLog(str(self.board.device)).__enter__()

    def next(self, topic, timeout=20):
        """The next payload on a topic below limpet/."""
        found = self.kit.wait(lambda t, payload: t == f"limpet/{topic}", timeout)
        assert found, topic
        return found[1]


def test_every_sketch_is_tested_and_short():
    here = Path(__file__)
    tests = here.read_text() + here.with_name("test_smq.py").read_text()
    tests += here.with_name("test_use.py").read_text()
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


def test_logger(run):
    unit = run("logger.py", adc={"26": 30000})
    first = json.loads(unit.next(f"{NAME}/up/log"))
    assert first[1:] == [1, 30000]
    unit.board.configure(networks={})
    for _ in range(2):  # two readings that cannot be delivered, each before a power cut
        unit.power_cycle()
        assert unit.log.wait("kept 1", 20)
    unit.board.configure(networks={"home": "a key of home"})
    later = [json.loads(unit.next(f"{NAME}/up/log", 40)) for _ in range(2)]
    boots = [boot for boot, _, _ in later]
    assert boots == [first[0] + 1, first[0] + 2]


# A BME280 (chip id 0x60) with the trimming of one: 519888 is the raw value of Bosch's own example
# with these three temperature coefficients, for which its data sheet gives 25.08 degrees.
BME280 = {
    "208": "60",
    "136": struct.pack("<Hhh", 27504, 26435, -1000).hex(),
    "161": bytes([75]).hex(),
    "225": struct.pack("<hBbBbb", 361, 0, 324 >> 4, 324 & 15 | (50 & 15) << 4, 50 >> 4, 30).hex(),
    "250": bytes(
        [519888 >> 12, 519888 >> 4 & 255, (519888 & 15) << 4, 30000 >> 8, 30000 & 255]
    ).hex(),
}


@pytest.mark.parametrize("board", ["SIM_RP2", "SIM_ESP32"])
def test_bme280(run, board):
    unit = run("bme280.py", board, i2c={"118": BME280})
    # The humidity is that of the data sheet's formula in floating point, worked out apart.
    assert json.loads(unit.next(f"{NAME}/up/climate")) == {"celsius": 25.08, "percent": 50.9}


def test_a_bme280_that_does_not_answer(run):
    unit = run("bme280.py")
    unit.power_cycle()  # the log begins before the sketch
    assert unit.log.wait("no reading", 20)


def test_wired(run):
    unit = run("wired.py", "SIM_ESP32", wired=True, adc={"36": 30000})
    assert unit.next(f"{NAME}/up/level") == b"30000"
    unit.power_cycle()  # the log begins before the sketch
    assert unit.log.wait("online at", 20)


def test_psk(run):
    unit = run("psk.py", kind="mosquitto", profile="psk")
    unit.command("led", b"on")
    assert unit.next(f"{NAME}/up/led") == b"on"


@pytest.mark.parametrize(
    "kind", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "embedded"]
)
def test_homeassistant(run, kind, capsys):
    """By an imitation that knows what Home Assistant was told and no more."""

    def admit(broker):
        assert cli.main(["broker", "homeassistant", str(broker.settings.folder)]) == 0
        broker.settings = settings.load(broker.settings.folder)
        password = broker.settings.home_password_file.read_text().strip()
        assert password not in capsys.readouterr().out

    unit = run("homeassistant.py", kind=kind, prepare=admit, dht={"4": [21.5, 48.0]})
    with Home(unit.broker.settings) as home:
        found = {}
        home.subscribe("homeassistant/+/+/+/config")
        while len(found) < 3:  # they are retained: Home Assistant may come later than the board
            topic, payload = home.messages.get(timeout=20)
            found[topic] = json.loads(payload)
        switch = found[f"homeassistant/switch/{NAME}/relay/config"]
        heat = found[f"homeassistant/sensor/{NAME}/temperature/config"]
        assert heat["unit_of_measurement"] == "°C"
        home.subscribe(switch["availability_topic"])
        topic, payload = home.messages.get(timeout=20)
        assert json.loads(payload)["state"] == "online"
        home.subscribe(switch["state_topic"])
        home.client.publish(switch["command_topic"], "ON")
        assert home.messages.get(timeout=20) == (f"limpet/{NAME}/up/relay", b"ON")


class Home:
    """Home Assistant's session: its account, its password, verified TLS."""

    def __init__(self, chosen):
        self.messages = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, chosen.home_account)
        password = chosen.home_password_file.read_text().strip()
        self.client.username_pw_set(chosen.home_account, password)
        self.client.tls_set(str(chosen.folder / "ca.crt"))
        self.client.on_message = lambda c, u, m: self.messages.put((m.topic, m.payload))
        self._chosen = chosen

    def __enter__(self):
        self.client.connect("localhost", self._chosen.kit_port)
        self.client.loop_start()
        return self

    def subscribe(self, topic):
        self.client.subscribe(topic, 1)

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()
