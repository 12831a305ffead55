# Several Wi-Fi networks, power save off, and what is going on in words.
#
# Wiring   none
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet up PORT --wifi FILE --main firmware/examples/networks.py
#          FILE (mode 0600) holds two lines a network: its name, then its key. The board tries them
#          in that order, and the one that worked last first.
import asyncio

import limpet
import network

station = network.WLAN(network.WLAN.IF_STA)
client = limpet.Client(log=print)


async def watch():
    async for state, reason in client.events():
        print(state, reason, station.config("ssid"), station.ifconfig()[0])


async def main():
    station.active(True)
    station.config(pm=network.WLAN.PM_NONE)  # 100 ms less delay, more current
    asyncio.create_task(watch())
    async with client:
        while True:
            await asyncio.sleep(60)
            await client.publish("signal", b"%d" % station.status("rssi"))


asyncio.run(main())
