"""A relay that counts what passes, and delays it: the long way to a far broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass

_APPLICATION_DATA = 23  # TLS record type


@dataclass
class Count:
    """Of all connections since the last `reset`: bytes each way, and the device's TLS records that
    carry MQTT."""

    up: int = 0
    down: int = 0
    records: int = 0


class Relay:
    """Listens on `port`, passes everything on to `target`, each way `delay_s` later."""

    def __init__(self, target: tuple[str, int], delay_s: float = 0.0) -> None:
        self._count = Count()
        self._open: set[asyncio.Task[None] | None] = set()
        self._target = target
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        serving = asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        self.port: int = serving.result(10)

    def reset(self) -> None:
        """Count anew."""
        self._count = Count()

    def count(self) -> Count:
        """What has passed; waits until every connection has ended and all of it has."""
        return asyncio.run_coroutine_threadsafe(self._ended(), self._loop).result(10)

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self) -> int:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _ended(self) -> Count:
        while self._open:
            await asyncio.sleep(0.01)
        return self._count

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        for w in (writer, far_writer):
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(
            self._pump(reader, far_writer, True), self._pump(far_reader, writer, False)
        )
        self._open.discard(asyncio.current_task())

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool
    ) -> None:
        seen = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if up:
                    self._count.up += len(data)
                    seen = self._records(seen + data)
                else:
                    self._count.down += len(data)
                if self._delay_s:
                    self._loop.call_later(self._delay_s, writer.write, data)
                else:
                    writer.write(data)
        self._loop.call_later(self._delay_s, writer.close)

    def _records(self, seen: bytes) -> bytes:
        """Count whole records; what is left of the last one."""
        while len(seen) >= 5:
            n = 5 + int.from_bytes(seen[3:5], "big")
            if len(seen) < n:
                break
            self._count.records += seen[0] == _APPLICATION_DATA
            seen = seen[n:]
        return seen
