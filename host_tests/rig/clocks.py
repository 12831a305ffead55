"""Clocks that are wrong, and time servers that lie, for devices on the real MicroPython.

mbedTLS judges dates by the machine's clock. `libfaketime` adds the seconds in a file to what the
device's process sees of it, so that device/rtc.py can set a clock that mbedTLS and the library
both read. The servers are on loopback; what port NTP has is a setting of the client.
"""

import os
import time
from pathlib import Path

import pytest
from limpet_kit.attack.time_servers import TimeServers

__all__ = ["ticking", "time_servers"]

_PLACES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


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


@pytest.fixture
def time_servers():
    """Two of them, honest until told otherwise."""
    servers = TimeServers()
    yield servers
    servers.close()
