"""`limpet attack`: Limpet holds in every case; what umqtt does without verifying is named."""

import json
from xml.etree import ElementTree

import pytest
from limpet_kit.attack import trial
from limpet_kit.attack.cases import World, cases
from limpet_kit.board import Board
from limpet_kit.errors import KitError

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


@pytest.fixture
def attack(tool, tmp_path):
    """`attack(port, folder, *options)` -> (exit code, the JSON object, JUnit's root)."""

    def run(port, folder, *options):
        junit = tmp_path / "attack.xml"
        options = ("--broker", folder, "--json", "--junit", junit, *options)
        done = tool("limpet", "attack", port, *options, check=False, timeout=110)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout), ElementTree.parse(junit).getroot()

    return run


def test_limpet_holds_in_every_case(sim_factory, broker_factory, tool, attack):
    board, broker = sim_factory(), broker_factory()
    port, folder = f"sim:{board.name}", broker.settings.folder
    tool("limpet", "up", port, "--broker", folder, "--json", timeout=60)
    code, report, junit = attack(port, folder)
    verdicts = {one["case"]: one["verdict"] for one in report["cases"]}
    assert set(verdicts.values()) == {"held"}, report
    assert code == 0 and report["ok"] and len(verdicts) == 16
    assert sum(one["said"] for one in report["cases"]) == 0
    assert all(0 < one["back_s"] < 60 for one in report["cases"])
    assert (junit.get("tests"), junit.get("failures"), junit.get("skipped")) == ("16", "0", "0")
    assert broker.running()  # it was stopped meanwhile, and runs again


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


def test_a_device_that_does_not_come_proves_nothing(sim_factory, broker_factory, monkeypatch):
    board, broker = sim_factory(), broker_factory(start=False)
    with Board(f"sim:{board.name}") as opened:
        opened.put("/main.py", b"print('idle')\nwhile True:\n    pass\n")
    monkeypatch.setattr(trial, "COME_S", 1.0)
    with pytest.raises(KitError, match=r"would prove nothing.*idle"):
        trial.Trial(f"sim:{board.name}", broker.settings).control()


def test_cases_are_made_for_each_kind_of_ca(broker_factory):
    for rsa in (False, True):
        broker = broker_factory(start=False, rsa=rsa)
        made = cases(World.of(broker.settings))
        assert len({case.name for case in made}) == 16
        for case in made:
            with case.server(("127.0.0.1", 0)) as server:
                assert server.port


def test_hostile_servers_stay_on_loopback_unless_told(broker_factory):
    broker = broker_factory(start=False, listen="192.0.2.9")
    with pytest.raises(KitError, match="--listen"):
        trial.Trial("sim:none", broker.settings)
