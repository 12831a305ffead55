"""What this board is and what it was told: the only place that reads the board's folder."""

import json

import vfs

board = {}  # what does not change: identity, geometry, the port's numbers
state = {}  # what outlives a reset, handed over by the host's part
_folder = None


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
    try:
        with open("settings.json", "r") as f:
            return json.load(f).get(name, default)
    except (OSError, ValueError):
        return default
