"""What this board is and what it was told: the only place that reads the board's folder."""

import json
import time

import vfs

board = {}  # what does not change: identity, geometry, the port's numbers
state = {}  # what outlives a reset, handed over by the host's part
_folder = None
_FRESH_MS = 100
_settings = {}
_read_at = None


def load(folder, given):
    """Read `board.json`; `given` is the state at this start."""
    global _folder
    _folder = vfs.VfsPosix(folder)
    with open("board.json", "r") as f:
        board.update(json.load(f))
    state.update(given)


def open(name, mode):
    """A file of the board's folder on the host, also when the board's own root is mounted."""
    return _folder.open("/" + name, mode)


def setting(name, default=None):
    """A setting as it stands now: tests and users change them while the board runs."""
    global _settings, _read_at
    try:
        with open("settings.json", "r") as f:
            _settings = json.load(f)
        _read_at = time.ticks_ms()
    except (OSError, ValueError):
        pass  # it is being written: what was read last holds
    return _settings.get(name, default)


def recent(name, default=None):
    """A setting as it stood at most 100 ms ago, for what is asked at every packet."""
    if _read_at is None or time.ticks_diff(time.ticks_ms(), _read_at) > _FRESH_MS:
        return setting(name, default)
    return _settings.get(name, default)
