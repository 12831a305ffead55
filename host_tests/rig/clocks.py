"""Clocks that are wrong, and time servers that lie, for devices on the real MicroPython.

mbedTLS judges dates by the machine's clock. `libfaketime` adds the seconds in a file to what the
device's process sees of it, so that device/rtc.py can set a clock that mbedTLS and the library
both read. The servers are on loopback; what port NTP has is a setting of the client.
"""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

__all__ = ["ticking", "time_servers"]

_PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")
_1970 = 2_208_988_800  # in NTP's seconds, which begin in 1900


def _library():
    """Path of libfaketime, None where it is not installed."""
    for place in _PLACES:
        for found in Path("/").glob(place.lstrip("/") + "/libfaketime.so.1"):
            return str(found)
    return None


class Clock:
    """The clock of a device's process; `environment` is what it must be started with."""

    def __init__(self, file, library):
        self.file = file
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # ticks are no matter of the calendar
        }
        self.set(time.time())

    def set(self, seconds):
        """Let it say this, s since 1970."""
        self.file.write_text(f"{seconds - time.time():+.0f}")


@pytest.fixture
def ticking(tmp_path):
    """`ticking(device)` -> Clock, the device's own from its next start on.

    Without libfaketime the test is skipped, or fails when LIMPET_REQUIRE_ALL=1.
    """
    library = _library()
    if library is None:
        words = "libfaketime is NOT INSTALLED: wrong clocks were not tested (apt install faketime)"
        if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
            pytest.fail(words)
        pytest.skip(words)

    def give(device):
        clock = Clock(tmp_path / f"{device.name}.clock", library)
        device.environment.update(clock.environment)
        return clock

    return give


class TimeServers:
    """Two NTP servers (RFC 5905) that agree. `wrong` is by how many seconds, None for silence."""

    def __init__(self):
        self.wrong = 0
        self.asked = 0
        self._closed = threading.Event()
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for s in self._sockets:
            s.bind(("127.0.0.1", 0))
            s.settimeout(0.2)
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    @property
    def names(self):
        """What a client is told."""
        return [f"127.0.0.1:{s.getsockname()[1]}" for s in self._sockets]

    def close(self):
        """Answer nobody any more."""
        self._closed.set()

    def _serve(self, s):
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


@pytest.fixture
def time_servers():
    """Two of them, honest until told otherwise."""
    servers = TimeServers()
    yield servers
    servers.close()
