# A button that tells another device or a web page, and an answer that comes back to it alone.
#
# Wiring   a button between GPIO 14 and GND
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/button.py
# Then     a press goes to limpet/<PARTNER>/from/<device>/pressed; what PARTNER sends back to
#          limpet/<device>/from/<PARTNER>/seen switches the LED. The broker enforces the sender.
import asyncio

import limpet
from machine import Pin

PARTNER = "panel"
button = Pin(14, Pin.IN, Pin.PULL_UP)
led = Pin("LED", Pin.OUT)
client = limpet.Client(log=print)


async def main():
    async with client:
        await client.online()

        @client.on("/limpet/%s/from/%s/seen" % (client.name, PARTNER))
        def seen(payload):
            led.value(payload == b"on")

        pressed = False
        presses = 0
        while True:
            await asyncio.sleep_ms(20)  # also rides out the contacts' bouncing
            if pressed != (not button.value()):
                pressed = not pressed
                if pressed:
                    presses += 1
                    await client.send(PARTNER, "pressed", b"%d" % presses, qos=1)


asyncio.run(main())
