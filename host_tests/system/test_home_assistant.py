"""The program of HOWTO.md between Limpet's broker and a Home Assistant's, beside a real board."""

import json
import os
import queue
import subprocess
import sys

import paho.mqtt.client as paho
import pytest
from limpet_kit.broker.server import free_port
from rig.broker import require
from rig.documents import blocks

DEVICE = "garden-lamp"  # as in the page
PAGE = "tools/limpet_kit/HOWTO.md"


@pytest.fixture
def theirs(tmp_path):
    """Home Assistant's broker, and a client of it that hears everything."""
    require("mosquitto")
    port = free_port()
    configuration = tmp_path / "theirs.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    running = subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL)
    heard = queue.Queue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "home-assistant")
    client.on_connect = lambda *_: client.subscribe("#", 1)
    client.on_message = lambda _, __, message: heard.put((message.topic, message.payload))
    try:
        client.connect_async("127.0.0.1", port)
        client.reconnect_delay_set(1, 1)
        client.loop_start()
        yield port, client, heard
    finally:
        client.loop_stop()
        client.disconnect()
        running.terminate()
        running.wait()


def wait(heard, topic, predicate=bool):
    """The payload of the first message on `topic` for which `predicate` holds."""
    while True:
        found, payload = heard.get(timeout=20)
        if found == topic and predicate(payload):
            return payload


def test_it_announces_and_carries_both_ways(theirs, broker, sim_board, tmp_path):
    port, client, heard = theirs
    sim_board.up(broker, name=DEVICE)
    (program,) = (b for b in blocks(PAGE) if b.file == "home_assistant.py")
    (tmp_path / program.file).write_text(program.text)
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "broker").symlink_to(broker.settings.folder)
    variables = {
        **os.environ,
        "LIMPET_HOME": str(tmp_path / "kit"),
        "HA_USER": "limpet",
        "HA_PASSWORD": "any",
        "HA_HOST": "127.0.0.1",
        "HA_PORT": str(port),
    }
    running = subprocess.Popen([sys.executable, tmp_path / program.file], env=variables)
    try:
        switch = json.loads(wait(heard, f"homeassistant/switch/{DEVICE}/led/config"))
        state = json.loads(wait(heard, switch["availability_topic"]))
        assert state["state"] == "online"  # what `availability_template` takes out of it
        client.publish(switch["command_topic"], switch["payload_on"], 1)
        assert wait(heard, switch["state_topic"]) == b"on"
    finally:
        running.kill()
        running.wait()
