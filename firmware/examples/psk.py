# A shared key in place of certificates: the handshake is shorter, and no clock is needed for it.
#
# Wiring   none
# Boards   Pico W, Pico 2 W, ESP32, with MicroPython 1.29 (tls with PSK)
# Run it   limpet broker init ~/psk --profile psk --host NAME && limpet broker run ~/psk
#          limpet up PORT --broker ~/psk --main firmware/examples/psk.py
# Cost     no public key is checked, so nothing of the chain has to fit into the heap. But without
#          forward secrecy: who learns a board's key later reads what it sent before.
#
# The profile is the broker's and lies in the vault: the sketch is as any other.
import asyncio

import limpet
from machine import Pin

led = Pin(2, Pin.OUT)  # Pico W: Pin("LED", Pin.OUT)
client = limpet.Client(log=print)


@client.on("led")
async def switch(payload):
    led.value(payload == b"on")
    await client.publish("led", b"on" if led.value() else b"off", qos=1, retain=True)


async def main():
    async with client:
        while True:
            await asyncio.sleep(3600)


asyncio.run(main())
