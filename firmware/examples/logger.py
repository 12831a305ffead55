# A reading every minute that no power cut and no lost network loses: kept until it was delivered.
#
# Wiring   a sensor of 0 to 3.3 V at GPIO 26 (ESP32: ADC(36))
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --main firmware/examples/logger.py
# Then     read limpet/<device>/up/log: boot, reading number and value. A power cut sends at most
#          one of them twice, with the same numbers.
import asyncio
import json

import limpet
from limpet.outbox import Outbox
from machine import ADC

EVERY_S = 60
BOOTS = "/boots"
sensor = ADC(26)
client = limpet.Client(log=print)
outbox = Outbox(client, limit=200, log=print)  # about 3 hours; 4 KiB of flash each at most


def count_boots():
    """How often the board has started: with the reading's number it names a reading."""
    try:
        with open(BOOTS) as f:
            boots = int(f.read()) + 1
    except (OSError, ValueError):
        boots = 1
    with open(BOOTS, "w") as f:
        f.write(str(boots))
    return boots


async def main():
    boot = count_boots()
    number = 0
    async with client, outbox:
        while True:  # also while it is offline
            number += 1
            outbox.put("log", json.dumps([boot, number, sensor.read_u16()]))
            print("kept", number)
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
