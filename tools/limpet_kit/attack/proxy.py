"""A fault proxy: TCP between a device and its server, which can be cut, held and sliced."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

Link = tuple["asyncio.Task[Any] | None", asyncio.StreamWriter, "asyncio.StreamWriter | None"]


class Proxy:
    """Listens on `address`, loopback unless told, and passes everything on to `target`.

    Set at any time: `silent` accepts and passes nothing on;
    `slice` bytes at most go to the device at once, `pace` seconds apart. Every connection
    that was accepted is counted in `accepted`.
    """

    def __init__(
        self, target: tuple[str, int], address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.target = target
        self.accepted = 0
        self.silent = False
        self.slice: int | None = None
        self.pace = 0.0
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.thaw()
        self._server: asyncio.Server | None = None
        self.host, self.port = address
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.listen()

    def listen(self) -> None:
        """Accept (again, on the same port)."""
        self._call(self._listen())

    def refuse(self) -> None:
        """Refuse connections; those that stand are left alone."""
        self._call(self._refuse())

    def cut(self, reset: bool = True) -> None:
        """End every connection, by RST or by FIN."""
        self._call(self._cut(reset))

    def freeze(self, *directions: str) -> None:
        """Pass nothing on `up`, `down` or both, and say nothing: a half-open link."""
        for name in directions or ("up", "down"):
            self._loop.call_soon_threadsafe(self._flowing[name].clear)

    def thaw(self) -> None:
        """Let everything flow again, what was held first."""
        for event in self._flowing.values():
            self._loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End it with all its connections."""
        self._call(self._refuse())
        self._call(self._cut(True))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    async def _cut(self, reset: bool) -> None:
        for task, client, server in list(self._links):
            if task:
                task.cancel()
            for writer in (client, server):
                if not writer:
                    continue
                if reset:
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                else:
                    writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        _no_delay(writer)
        task = asyncio.current_task()
        link: Link = (task, writer, None)
        self._links.add(link)
        try:
            if self.silent:
                await asyncio.Event().wait()
            try:
                server = await asyncio.open_connection(*self.target)
            except OSError:
                return
            self._links.discard(link)
            link = (task, writer, server[1])
            self._links.add(link)
            _no_delay(server[1])
            pumps = (self._pump(reader, server[1], "up"), self._pump(server[0], writer, "down"))
            tasks = [asyncio.ensure_future(pump) for pump in pumps]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in tasks:
                    pump.cancel()
        except asyncio.CancelledError:
            pass  # cut
        finally:
            self._links.discard(link)
            for end in link[1:]:
                if end:
                    end.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                at = 0
                while at < len(data):
                    await self._flowing[direction].wait()
                    n = self.slice if direction == "down" and self.slice else len(data)
                    writer.write(data[at : at + n])
                    await writer.drain()
                    at += n
                    if direction == "down" and self.pace:
                        await asyncio.sleep(self.pace)


def _no_delay(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
