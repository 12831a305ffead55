# Ethernet, or a modem with PPP: the sketch brings the interface up, the client does the rest.
#
# Wiring   an ESP32 board with a LAN8720: MDC GPIO 23, MDIO GPIO 18, power GPIO 16 (WT32-ETH01)
# Boards   ESP32. For a W5500 on a Pico: network.WIZNET5K(SPI(0), Pin(17), Pin(20)) in a firmware
#          that has it. For a modem: ppp = network.PPP(UART(1)), ppp.active(True), ppp.connect().
# Run it   limpet up PORT --no-wifi --main firmware/examples/wired.py
# Then     read limpet/<device>/up/temperature
import asyncio

import esp32
import limpet
import network
from machine import Pin

EVERY_S = 60
lan = network.LAN(
    mdc=Pin(23), mdio=Pin(18), power=Pin(16), phy_type=network.PHY_LAN8720, phy_addr=1
)
# False: the client joins no Wi-Fi. It needs no word of the cable either: it tries until it is in.
client = limpet.Client(wifi=False, log=print)


async def main():
    lan.active(True)
    async with client:
        await client.online()
        print("online at", lan.ifconfig()[0])
        while True:
            celsius = esp32.mcu_temperature()  # of the chip; not on the oldest ESP32
            await client.publish("temperature", b"%d" % celsius, qos=1)
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
