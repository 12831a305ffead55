"""For how long boards are refused, as they say themselves."""

import contextlib
import os
import select
import threading
import time

# A refused pending record gives way to the confirmed one at once. Above that lie the waits that
# must not come: ten minutes after a strike, an hour after a refusal.
FALL_BACK_S = 60.0


class Refusals:
    """What the boards say on their serial ports: how often they were refused, and for how long.

    A board that is off is not refused; one that never comes online again is, until the end.
    """

    def __init__(self, boards):
        self._boards = boards
        self._since = {}
        self._ports = {}
        self._stop = threading.Event()
        self.count = 0
        self.online = 0
        self.longest = 0.0

    def __enter__(self):
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        for port in self._ports:
            os.close(port)
        for since in self._since.values():
            self.longest = max(self.longest, time.monotonic() - since)

    def _read(self):
        while not self._stop.is_set():
            for board in set(self._boards) - {b for b, _ in self._ports.values()}:
                with contextlib.suppress(Exception):  # it is off, or just starting
                    port = os.open(board.device, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
                    self._ports[port] = board, b""
            for port in select.select(list(self._ports), [], [], 0.2)[0]:
                self._hear(port)

    def _hear(self, port):
        board, half = self._ports[port]
        try:
            data = os.read(port, 4096)
        except OSError:
            data = b""
        if not data:
            os.close(port)
            del self._ports[port]
            self._since.pop(board.name, None)
            return
        *lines, half = (half + data).split(b"\n")
        self._ports[port] = board, half
        for line in lines:
            if line.startswith(b"REFUSED"):
                self.count += 1
                self._since.setdefault(board.name, time.monotonic())
            elif line.startswith(b"ONLINE"):
                self.online += 1
                began = self._since.pop(board.name, time.monotonic())
                self.longest = max(self.longest, time.monotonic() - began)
