"""One window's WebSocket, joined to the broker: MQTT in binary frames on both sides.

The bridge logs in with a seat of the window's session: the page itself holds no account, and
nothing that a script could steal from it is worth anything at the broker. What the page may
publish and read is the broker's to decide, by the seat's ACL.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable

from starlette.websockets import WebSocket, WebSocketDisconnect

from ..broker import client, connect
from ..broker.settings import Settings
from .limits import Allowance
from .people import Seat
from .sessions import Session

PROTOCOL = "mqtt"  # MQTT 3.1.1, section 6: the WebSocket subprotocol
LARGEST = 65536  # bytes of one frame from a page
FRAMES_S, BYTES_S = 50, 65536  # what a page may send in the long run; four times that at once
READ = 16384
KEEPALIVE_S = 60  # the longest that a page may ask for
CONNECT_S = 10.0
OVER_S = 0.6  # three times as often as the ledger is looked at (sessions.py)
# Close codes of our own (RFC 6455, 7.4.2); page/link.js says them in words.
ENDED, CROWDED, TOO_MUCH, AWAY, UNFIT = 4001, 4002, 4003, 4004, 4005


class _Close(Exception):
    """The window's connection is to be closed with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def serve(window: WebSocket, session: Session, settings: Settings) -> None:
    """Join until one side ends or the session is over."""
    await window.accept(PROTOCOL)
    seat = session.free.pop() if session.free else None
    joined = asyncio.create_task(_join(window, seat, settings))
    over = asyncio.create_task(session.over.wait())
    try:
        await asyncio.wait((joined, over), return_when=asyncio.FIRST_COMPLETED)
        code = ENDED if session.over.is_set() else joined.result()
        if code == AWAY:  # a broker that has just been told of the end is quicker than we are
            await asyncio.wait((over,), timeout=OVER_S)
            code = ENDED if session.over.is_set() else AWAY
    finally:
        for task in (joined, over):
            task.cancel()
        await asyncio.gather(joined, over, return_exceptions=True)
        if seat:
            session.free.append(seat)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has gone already
        await window.close(code)


async def _join(window: WebSocket, seat: Seat | None, settings: Settings) -> int:
    """The code with which the window is to be closed."""
    if seat is None:
        return CROWDED
    try:
        first = await asyncio.wait_for(_hello(window, seat), CONNECT_S)
        reader, writer = await asyncio.wait_for(_reach(settings), CONNECT_S)
    except _Close as e:
        return e.code
    except WebSocketDisconnect:
        return ENDED
    except (OSError, asyncio.TimeoutError):
        return AWAY
    try:
        writer.write(first)
        ways = [
            asyncio.create_task(_from_page(window, writer)),
            asyncio.create_task(_to_page(reader, window)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    finally:
        writer.transport.abort()


async def _hello(window: WebSocket, seat: Seat) -> bytes:
    """The page's CONNECT, made the seat's: its keep-alive is taken, nothing else."""
    frame = asyncio.StreamReader()
    frame.feed_data(await _frame(window))
    frame.feed_eof()
    try:
        said = connect.parse(await connect.read(frame))
    except (connect.Malformed, connect.OtherProtocol, EOFError):
        raise _Close(UNFIT) from None
    if not frame.at_eof():
        raise _Close(UNFIT)
    keepalive = min(said.keepalive or KEEPALIVE_S, KEEPALIVE_S)
    return connect.encode(
        connect.Connect(seat.account, seat.password, seat.account, keepalive=keepalive)
    )


async def _reach(settings: Settings) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A link to the first of the broker's machines that answers."""

    def link(address: str) -> Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        return asyncio.open_connection(
            address,
            settings.kit_port,  # where passwords are taken, whatever the devices' profile is
            ssl=client.context(settings),
            server_hostname=settings.names[0],
        )

    *others, last = settings.kit_addresses
    for address in others:
        with contextlib.suppress(OSError):
            return await link(address)
    return await link(last)


async def _from_page(window: WebSocket, writer: asyncio.StreamWriter) -> int:
    frames = Allowance(FRAMES_S, 4 * FRAMES_S, time.monotonic)
    size = Allowance(BYTES_S, 4 * BYTES_S, time.monotonic)
    try:
        while True:
            data = await _frame(window)
            if not frames.spend(1) or not size.spend(len(data)):
                return TOO_MUCH
            writer.write(data)
            await writer.drain()
    except _Close as e:
        return e.code
    except WebSocketDisconnect:
        return ENDED
    except OSError:
        return AWAY


async def _to_page(reader: asyncio.StreamReader, window: WebSocket) -> int:
    try:
        while data := await reader.read(READ):
            await window.send_bytes(data)
        return AWAY
    except OSError:
        return AWAY
    except (RuntimeError, WebSocketDisconnect):
        return ENDED


async def _frame(window: WebSocket) -> bytes:
    """The next frame, which has to be binary (MQTT 3.1.1, section 6)."""
    message = await window.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    data = message.get("bytes")
    if not isinstance(data, bytes):
        raise _Close(UNFIT)
    return data
