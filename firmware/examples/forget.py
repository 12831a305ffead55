# A long press by its owner makes a device forget its credential, for good.
#
# Wiring   a button between GPIO 14 and GND
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/forget.py
# Then     ten seconds on the button, and the device is UNPROVISIONED: the LED blinks. Its account
#          ends with: limpet revoke DEVICE. A new credential: limpet up PORT --replace DEVICE
import asyncio

import limpet
from limpet.vault import Vault
from machine import Pin, reset

HOLD_MS = 10_000
STEP_MS = 100
button = Pin(14, Pin.IN, Pin.PULL_UP)
led = Pin("LED", Pin.OUT)
client = limpet.Client(log=print)


async def main():
    async with client:
        held = 0
        while held < HOLD_MS:
            await asyncio.sleep_ms(STEP_MS)
            held = 0 if button.value() else held + STEP_MS
            led.value(not led.value() if client.state == "UNPROVISIONED" else 0)
    Vault().wipe()
    reset()  # the client scrubs the flash from there on


asyncio.run(main())
