# Temperature and humidity from a DHT22, every minute.
#
# Wiring   DHT22: pin 1 to 3V3, pin 2 to GPIO 4 with 10 kOhm to 3V3, pin 4 to GND
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/telemetry.py
# Then     read limpet/<device>/up/climate
import asyncio
import json

import limpet
from dht import DHT22
from machine import Pin

EVERY_S = 60
sensor = DHT22(Pin(4))
client = limpet.Client(log=print)


def read():
    """The reading as JSON, or None: a DHT22 misses one now and then."""
    try:
        sensor.measure()
    except OSError:
        return None
    return json.dumps({"celsius": sensor.temperature(), "percent": sensor.humidity()})


async def main():
    async with client:
        await client.online()
        while True:
            reading = read()
            if reading:
                await client.publish("climate", reading, qos=1)
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
