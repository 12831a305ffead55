# A relay that falls back to off when nobody can switch it off any more.
#
# Wiring   relay board: IN to GPIO 15, VCC to 5 V, GND to GND
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/relay.py
# Then     publish on or off to limpet/<device>/cmd/relay
import asyncio

import limpet
from machine import Pin

GRACE_S = 10  # a connection may be lost for so long before the relay falls back
relay = Pin(15, Pin.OUT, value=0)
client = limpet.Client(log=print)


@client.on("relay")
async def switch(payload):
    relay.value(payload == b"on")
    await tell()


async def tell():
    print("relay", "on" if relay.value() else "off")
    await client.publish("relay", b"on" if relay.value() else b"off", qos=1, retain=True)


async def fall_back():
    while True:
        await asyncio.sleep(1)
        if client.state != "ONLINE" and relay.value():
            await asyncio.sleep(GRACE_S)
            if client.state != "ONLINE":
                relay.off()
                await tell()  # ends when it is online again


async def main():
    async with client:
        await fall_back()


asyncio.run(main())
