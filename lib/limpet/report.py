"""For a board that wakes, reports and sleeps: one try, one message, as few bytes as it takes."""

import asyncio
from time import ticks_ms

from micropython import const

from .dial import hello
from .errors import LimpetError, Lost
from .flight import Message
from .keeper import WAITED
from .status import UNPROVISIONED

_ACK_MS = const(20_000)


async def report(keeper, message, slept_s):
    """Connect, have one message acknowledged, leave.

    CONNECT and PUBLISH go in one write, without a will and without subscriptions; the PUBACK
    confirms the record. Raises LimpetError when that fails, a pending record's failure only when
    the confirmed one failed too, and while a refused account has to wait; `slept_s` (s in deep
    sleep) are taken off that wait.
    """
    logins = keeper.logins
    while True:
        record = logins.record()
        if not record:
            raise LimpetError(UNPROVISIONED)
        logins.skip(slept_s)
        slept_s = 0
        if logins.waiting():
            record.wipe()
            raise WAITED
        try:
            return await _try(keeper, record, message)
        except LimpetError as e:
            keeper.times.failed(e)
            if logins.failed(e):  # otherwise the confirmed record is next, at once
                raise
            message = Message(message.topic, message.payload, message.flags)


async def _try(keeper, record, message):
    flight = keeper.flight
    out = keeper.out

    def say():
        keeper.logins.sending()
        packet = memoryview(out.buf)[out.off : out.off + out.n]
        return hello(record, keeper.keepalive, True) + packet

    session = reader = None
    beat = asyncio.create_task(keeper.beat())  # feeds the watchdog
    try:
        flight.put(message)
        flight.next(ticks_ms())
        if out.publish(message.topic, message.payload, message.flags, message.pid):
            raise ValueError("a report must fit the send buffer")
        await keeper.reach(record, say)
        session = keeper.begin()
        reader = asyncio.create_task(_read(session, message))
        keeper.step(_ACK_MS)
        await asyncio.wait_for_ms(message.wait(), _ACK_MS)
        keeper.logins.accepted(record)
        await session.goodbye()
    except asyncio.TimeoutError:
        raise Lost("NO_ACK", "report")
    finally:
        beat.cancel()
        if reader:
            reader.cancel()
            session.close()
        flight.clear()
        keeper.hang_up(record)


async def _read(session, message):
    await session.guard(session.run())
    message.end(session.failure)  # it waits no longer
