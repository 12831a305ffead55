# A broker of somebody else, with a CA of its own: hosted, or one that you have already.
#
# Wiring   none
# Boards   Pico W, Pico 2 W, ESP32
# Run it   limpet broker use HOST --ca ca.pem --accounts logins.txt cloud
#          limpet up PORT --broker cloud --main firmware/examples/cloud.py
# Then     read limpet/<device>/up/free there. The sketch is the one for any broker: server, CA and
#          account are in the vault. What the account may do is up to that broker; one that
#          forbids a topic may acknowledge what it drops (Mosquitto does), so look there once.
import asyncio
import gc

import limpet

EVERY_S = 60
client = limpet.Client(log=print)


async def main():
    async with client:
        await client.online()
        while True:
            await client.publish("free", b"%d" % gc.mem_free(), qos=1)
            await asyncio.sleep(EVERY_S)


asyncio.run(main())
