# SMQ instead of MQTT, for a Barracuda, Mako or Xedge server. Experimental: lib/limpet/SMQ.md.
#
# Wiring   none: the board's own LED. On an ESP32 put your LED's pin number for "LED".
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/smq.py, on a board enrolled for that server: the
#          kit has no command for that yet (it enrols for MQTT); lib/limpet/SMQ.md
# Then     publish on or off to the topic led, from a web page or another device
import asyncio
import gc

from limpet import smq
from machine import Pin

led = Pin("LED", Pin.OUT)
client = smq.Client("/smq.lsp", log=print)


@client.on("led")
def switch(payload, sender):
    led.value(payload == b"on")


@client.on("self")
async def asked(payload, sender):
    await client.publish(sender, b"on" if led.value() else b"off")


async def main():
    async with client:
        while True:
            await client.online()
            await client.publish("memory", b"%d" % gc.mem_free())
            await asyncio.sleep(60)


asyncio.run(main())
