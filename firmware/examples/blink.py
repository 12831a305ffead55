# Blink on command.
#
# Wiring   none: the board's own LED. On an ESP32 put your LED's pin number for "LED".
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/blink.py
# Then     publish a number of blinks to limpet/<device>/cmd/blink
import asyncio

import limpet
from machine import Pin

led = Pin("LED", Pin.OUT)
client = limpet.Client(log=print)


@client.on("blink")
async def blink(payload):
    times = int(payload) if payload.isdigit() else 1
    for _ in range(min(times, 20)):
        led.on()
        await asyncio.sleep_ms(150)
        led.off()
        await asyncio.sleep_ms(150)
    await client.publish("blinked", b"%d" % times, qos=1)


async def main():
    async with client:
        while True:
            await asyncio.sleep(3600)


asyncio.run(main())
