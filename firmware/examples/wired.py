# Ethernet, or a modem with PPP: the sketch brings the interface up, the client does the rest.
#
# Wiring   an ESP32 board with a LAN8720: MDC GPIO 23, MDIO GPIO 18, power GPIO 16 (WT32-ETH01)
# Boards   ESP32. For a W5500 on a Pico: network.WIZNET5K(SPI(0), Pin(17), Pin(20)) in a firmware
#          that has it. For a modem: ppp = network.PPP(UART(1)), ppp.active(True), ppp.connect().
# Run it   limpet up PORT --no-wifi --main firmware/examples/wired.py
# Then     read limpet/<device>/up/level: what a sensor of 0 to 3.3 V at GPIO 36 says
import asyncio

import limpet
import network
from machine import ADC, Pin

EVERY_S = 60
sensor = ADC(36)
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
            await client.publish("level", b"%d" % sensor.read_u16(), qos=1)
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
