# Wake, report, sleep: for a battery.
#
# Wiring   two 100 kOhm resistors halve the battery's voltage for GPIO 28
# Boards   Pico W, Pico 2 W, ESP32; MicroPython 1.29 (machine.mem_backup)
# Run it   limpet up PORT --main firmware/examples/sleeper.py
# Cost     a report is one TLS handshake: 4 round trips, 466 bytes up and about 900 down with an EC
#          certificate; an RP2040 computes 1.5 s for it (0.9 s with an RSA certificate).
import asyncio

import limpet
import machine
from limpet.errors import LimpetError

SLEEP_MS = 15 * 60 * 1000
FULL = 96  # every so many reports a whole session: commands and changes from the kit arrive
LISTEN_S = 5
battery = machine.ADC(28)  # on an ESP32 for instance 35
left = machine.mem_backup()  # outlives deep sleep, but not power-off
client = limpet.Client(log=print)


async def main():
    reading = b"%d" % battery.read_u16()
    try:
        if left[0]:
            left[0] -= 1
            # CONNECT and PUBLISH leave in one write: no will, no subscription.
            await client.report("battery", reading, slept_s=SLEEP_MS // 1000)
        else:
            async with client:
                await client.online()
                await client.publish("battery", reading, qos=1)
                await asyncio.sleep(LISTEN_S)
            left[0] = FULL
    except LimpetError as e:
        print("not reported:", e)
    machine.deepsleep(SLEEP_MS)


asyncio.run(main())
