"""The default application: a reading every half minute, an LED and a ping to command.

Runs on every board that `limpet up` has enrolled. Ctrl-C gives the REPL back. Replace it with
your own sketch: `limpet up PORT --main my_sketch.py`.
"""

import asyncio
import gc

import limpet

client = limpet.Client(log=print)


def find_led():
    """The board's LED, or None where its pin has no name."""
    try:
        from machine import Pin

        return Pin("LED", Pin.OUT)
    except (ImportError, TypeError, ValueError):
        return None


def find_reading():
    """(name, function giving bytes) of what this board can measure by itself."""
    try:
        import esp32

        return "temperature", lambda: b"%d" % esp32.mcu_temperature()
    except (ImportError, AttributeError):
        pass
    try:
        from machine import ADC

        adc = ADC(4)  # RP2040 data sheet, 4.9.5: 27 degrees at 0.706 V, -1.721 mV a degree
        return (
            "temperature",
            lambda: b"%.1f" % (27 - (adc.read_u16() * 3.3 / 65535 - 0.706) / 0.001721),
        )
    except (ImportError, AttributeError, ValueError):
        return "memory", lambda: b"%d" % gc.mem_free()


led = find_led()


@client.on("led")
async def on_led(payload):
    """`on`, `off` or nothing (toggles); answers with what it is now."""
    if led:
        led.value({b"on": 1, b"off": 0}.get(payload, not led.value()))
    await client.publish("led", b"on" if led and led.value() else b"off", qos=1)


@client.on("ping")
async def on_ping(payload):
    """Answers with what it was sent."""
    await client.publish("ping", payload, qos=1)


async def main():
    name, read = find_reading()
    async with client:
        await client.online()
        while True:
            await client.publish(name, read(), qos=1)
            await asyncio.sleep(30)


asyncio.run(main())
