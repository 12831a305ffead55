# A sensor and a relay that Home Assistant finds by itself (MQTT discovery).
# Wiring   DHT22 at GPIO 4 as in telemetry.py; a relay board at GPIO 15 as in relay.py
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet broker homeassistant      once: lets boards announce, says what HA is to be told
#          limpet up PORT --main firmware/examples/homeassistant.py
import asyncio
import json

import limpet
from dht import DHT22
from machine import Pin

EVERY_S = 60
sensor = DHT22(Pin(4))
relay = Pin(15, Pin.OUT, value=0)
client = limpet.Client(log=print)


@client.on("relay")
async def switch(payload):
    relay.value(payload == b"ON")
    await client.publish("relay", b"ON" if relay.value() else b"OFF", qos=1, retain=True)


async def announce(kind, name, **more):
    """One entity: a retained message below this board's own node of the discovery topic."""
    config = {
        "name": name,
        "unique_id": "%s_%s" % (client.name, name),
        "availability_topic": "limpet/%s/state" % client.name,
        "availability_template": "{{ value_json.state }}",
        "device": {"identifiers": [client.name], "name": client.name},
    }
    config.update(more)
    topic = "/homeassistant/%s/%s/%s/config" % (kind, client.name, name)
    await client.publish(topic, json.dumps(config), qos=1, retain=True)


async def main():
    async with client:
        await client.online()
        us = "limpet/%s/" % client.name
        for name, unit in (("temperature", "°C"), ("humidity", "%")):
            what = {"device_class": name, "unit_of_measurement": unit}
            await announce("sensor", name, state_topic=us + "up/" + name, **what)
        await announce(
            "switch", "relay", state_topic=us + "up/relay", command_topic=us + "cmd/relay"
        )
        while True:
            try:
                sensor.measure()
                await client.publish("temperature", b"%.1f" % sensor.temperature(), qos=1)
                await client.publish("humidity", b"%.1f" % sensor.humidity(), qos=1)
            except OSError:
                pass  # a DHT22 misses one now and then
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
