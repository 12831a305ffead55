"""Time servers that lie: NTP is not authenticated, so anybody on the path can be one."""

from __future__ import annotations

import socket
import threading
import time

_1970 = 2_208_988_800  # in NTP's seconds, which begin in 1900


class TimeServers:
    """Two NTP servers (RFC 5905) that agree. `wrong` is by how many seconds, None for silence."""

    def __init__(self) -> None:
        self.wrong: float | None = 0
        self.asked = 0
        self._closed = threading.Event()
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for s in self._sockets:
            s.bind(("127.0.0.1", 0))
            s.settimeout(0.2)
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    @property
    def names(self) -> list[str]:
        """What a client is told."""
        return [f"127.0.0.1:{s.getsockname()[1]}" for s in self._sockets]

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed.set()

    def _serve(self, s: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                question, client = s.recvfrom(64)
            except TimeoutError:
                continue
            self.asked += 1
            wrong = self.wrong
            if len(question) == 48 and wrong is not None:
                now = (int(time.time() + wrong + _1970) % (1 << 32)).to_bytes(4, "big")
                head = b"\x24\x02" + bytes(22)  # server, stratum 2
                s.sendto(head + question[40:48] + bytes(8) + now + bytes(4), client)
        s.close()
