# Temperature and humidity from a BME280 by I2C, in the integers of Bosch's data sheet (4.2.3).
#
# Wiring   BME280: VIN to 3V3, GND to GND, SDA to GPIO 4, SCL to GPIO 5, SDO to GND (address 0x76)
# Boards   Pico W, Pico 2 W, ESP32 (there SDA 21, SCL 22)
# Run it   limpet up PORT --main firmware/examples/bme280.py
# Then     read limpet/<device>/up/climate
import asyncio
import json
from struct import unpack

import limpet
from machine import I2C, Pin

EVERY_S = 60
AT = 0x76
bus = I2C(0, sda=Pin(4), scl=Pin(5))
client = limpet.Client(log=print)


def read():
    """(degrees, percent). Raises OSError when the sensor does not answer."""
    if bus.readfrom_mem(AT, 0xD0, 1) != b"\x60":
        raise OSError("not a BME280")
    t1, t2, t3 = unpack("<Hhh", bus.readfrom_mem(AT, 0x88, 6))
    h1 = bus.readfrom_mem(AT, 0xA1, 1)[0]
    h2, h3, e4, e5, e6, h6 = unpack("<hBbBbb", bus.readfrom_mem(AT, 0xE1, 7))
    h4, h5 = e4 << 4 | e5 & 15, e6 << 4 | e5 >> 4
    bus.writeto_mem(AT, 0xF2, b"\x01")  # humidity once
    bus.writeto_mem(AT, 0xF4, b"\x21")  # temperature once, and measure now
    while bus.readfrom_mem(AT, 0xF3, 1)[0] & 8:
        pass  # 7 ms
    raw = bus.readfrom_mem(AT, 0xFA, 5)
    t = raw[0] << 12 | raw[1] << 4 | raw[2] >> 4
    d = (t >> 4) - t1
    fine = ((t >> 3) - (t1 << 1)) * t2 // 2048 + (d * d // 4096) * t3 // 16384
    v = fine - 76800
    x = ((raw[3] << 22 | raw[4] << 14) - (h4 << 20) - h5 * v + 16384) >> 15
    gain = (v * h6 >> 10) * ((v * h3 >> 11) + 32768) >> 10
    x *= (gain + 2097152) * h2 + 8192 >> 14
    x -= ((x >> 15) * (x >> 15) >> 7) * h1 >> 4
    return (fine * 5 + 128 >> 8) / 100, (min(max(x, 0), 419430400) >> 12) / 1024


async def main():
    async with client:
        await client.online()
        while True:
            try:
                celsius, percent = read()
                reading = {"celsius": celsius, "percent": round(percent, 1)}
                await client.publish("climate", json.dumps(reading), qos=1)
            except OSError as e:
                print("no reading:", e)
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
