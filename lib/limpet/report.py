"""For a board that wakes, reports and sleeps: one try, one message, as few bytes as it takes."""

import asyncio
from time import ticks_ms

from micropython import const

from .dial import hello
from .errors import LimpetError, Lost
from .keeper import UNPROVISIONED, WAITED

_ACK_MS = const(20_000)


async def report(keeper, message, slept_s):
    """Connect, have one message acknowledged, leave.

    CONNECT and PUBLISH go in one write, without a will and without subscriptions. Raises
    LimpetError when that fails, and while a refused account has to wait; `slept_s` (s in deep
    sleep) are taken off that wait.
    """
    logins = keeper.logins
    flight = keeper.flight
    out = keeper.out
    record = logins.record()
    if not record:
        raise LimpetError(UNPROVISIONED)
    logins.skip(slept_s)
    if logins.waiting():
        record.wipe()
        raise WAITED
    flight.put(message)
    flight.next(ticks_ms())
    if out.publish(message.topic, message.payload, message.flags, message.pid):
        raise ValueError("a report must fit the send buffer")
    packet = memoryview(out.buf)[out.off : out.off + out.n]

    def say():
        logins.sending()
        return hello(record, keeper.keepalive, True) + packet

    session = reader = None
    try:
        await keeper.reach(record, say)
        session = keeper.begin()
        reader = asyncio.create_task(_read(session, message))
        await asyncio.wait_for_ms(message.wait(), _ACK_MS)
        logins.accepted(record)
        await session.goodbye()
    except asyncio.TimeoutError:
        raise _failed(logins, Lost("NO_ACK", "report"))
    except LimpetError as e:
        raise _failed(logins, e)
    finally:
        if reader:
            reader.cancel()
            session.close()
        flight.clear()
        keeper.hang_up(record)


async def _read(session, message):
    await session.guard(session.run())
    message.end(session.failure)  # it waits no longer


def _failed(logins, failure):
    logins.failed(failure)
    return failure
