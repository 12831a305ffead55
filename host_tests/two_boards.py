"""Two boards that talk to each other through the broker: `two_boards.py PORT PORT [options]`.

One asks by `client.send`, the other answers by it; the broker enforces the senders. Both ports are
serial ports or `sim:NAME`; options as of `limpet up`. A board that is not enrolled gets a name and
a credential, and each a main.py that this test needs: `limpet up PORT` afterwards puts ours back.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from limpet_kit import bringup, paths
from limpet_kit.broker import settings
from limpet_kit.broker.client import KitClient
from limpet_kit.commands import enroll
from limpet_kit.console import Console
from limpet_kit.errors import KitError

QUESTIONS = 20
ANSWERS = """
import asyncio
import limpet

client = limpet.Client(log=print)

async def main():
    async with client:
        await client.online()

        @client.on("/limpet/%s/from/+/question" % client.name)
        async def answer(topic, payload):
            asker = bytes(topic).decode().split("/")[3]
            await client.send(asker, "answer", payload, qos=1)

        while True:
            await asyncio.sleep(60)

asyncio.run(main())
"""
ASKS = """
import asyncio
import json
import limpet
from time import ticks_diff, ticks_ms

client = limpet.Client(log=print)
came = asyncio.Event()
got = []

async def main():
    async with client:
        await client.online()

        @client.on("/limpet/%s/from/{partner}/answer" % client.name)
        def answer(payload):
            got.append(bytes(payload))
            came.set()

        longest = 0
        for number in range({questions}):
            came.clear()
            asked = ticks_ms()
            await client.send("{partner}", "question", b"%d" % number, qos=1)
            await asyncio.wait_for(came.wait(), 10)
            longest = max(longest, ticks_diff(ticks_ms(), asked))
        right = got == [b"%d" % number for number in range({questions})]
        result = json.dumps({{"answers": len(got), "right": right, "longest_ms": longest}})
        await client.publish("exchange", result, qos=1)
        while True:
            await asyncio.sleep(60)

asyncio.run(main())
"""


def exchange(ports, chosen, plans, console, step=lambda name, words: None):
    """What the asking board says of it: {"answers": n, "right": bool, "longest_ms": n}.

    `ports` and `plans` are those of the board that answers and of the one that asks.
    """
    with KitClient(chosen) as kit, tempfile.TemporaryDirectory() as folder:
        kit.subscribe("limpet/+/up/exchange")

        def start(which, text):
            sketch = Path(folder) / f"{which}.py"
            sketch.write_text(text)
            goods = bringup.Goods(sketch=sketch)
            return bringup.bring_up(
                ports[which], chosen, plans[which], console, step, goods=goods, reading_s=0
            )

        partner = start(0, ANSWERS).unit.name
        asker = start(1, ASKS.format(partner=partner, questions=QUESTIONS)).unit.name
        topic = f"limpet/{asker}/up/exchange"
        found = kit.wait(lambda t, payload: t == topic, 60)
        if not found:
            raise KitError(f"{asker} and {partner} are online, but the exchange did not end.")
        return json.loads(found[1])


def main() -> int:
    """Run it; 0 when each question had its answer, in order."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", nargs=2, metavar="PORT", help="serial port, or sim:NAME")
    enroll.choice(parser)
    args = parser.parse_args()
    console = Console()
    step = lambda name, words: console.line(words)  # noqa: E731
    ports = [bringup.simulated(port, step) for port in args.port]
    chosen = settings.load(args.broker or paths.home() / "broker")
    told = exchange(ports, chosen, [enroll.plan(args)] * 2, console, step)
    console.line(json.dumps(told))
    return 0 if told["right"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KitError as e:
        print(f"two_boards.py: {e}", file=sys.stderr)
        sys.exit(e.code)
