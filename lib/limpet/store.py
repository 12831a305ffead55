"""Where bytes lie: named items, each replaced as a whole. Layouts: PROTOCOLS.md 3 and 4.

Items: `box0` `key0` `box1` `key1` (a slot's record and its store secret), `sources`, and the two
places of the journal, `log0` `log1`.
"""

import os

from .errors import LimpetError

_BLOCK = 4096


def no_space():
    """The error of a full flash."""
    return LimpetError("NO_SPACE", "the flash of this board is full: remove files you do not need")


class FileStore:
    """One file an item, in one folder.

    A file of LittleFS that is written with open, write and close is whole or not there, also
    when power is cut (measured at every cut point). What it replaced stays readable in the
    flash until `scrub` is done.
    """

    def __init__(self, folder="/.limpet"):
        self._folder = folder

    def read(self, item):
        """The item (bytearray), None when there is none."""
        path = self._path(item)
        try:
            data = bytearray(os.stat(path)[6])
            with open(path, "rb") as f:
                n = f.readinto(data)
        except OSError:
            return None
        return data if n == len(data) else None

    def write(self, item, data):
        """Replace the item; raises LimpetError NO_SPACE or FLASH, the old one is there then."""
        try:
            os.mkdir(self._folder)
        except OSError:
            pass  # it is there
        # The old file stays until the new one is closed; a new folder entry may take a block.
        if self.free() < len(data) + 3 * _BLOCK:
            raise no_space()
        try:
            with open(self._path(item), "wb") as f:
                f.write(data)
        except OSError as e:
            raise LimpetError("FLASH", "the flash of this board does not take writes (%s)" % e)

    def erase(self, item):
        """Remove the item; nothing happens when there is none."""
        try:
            os.remove(self._path(item))
        except OSError:
            pass  # it was not there

    def free(self):
        """Bytes that are free for files."""
        try:
            state = os.statvfs(self._folder)
        except OSError:  # no folder yet
            state = os.statvfs("/")
        # LittleFS may count a block twice: on a full flash the rest is -3, as unsigned 32 bits.
        return state[1] * state[4] if state[4] <= state[2] else 0

    def _path(self, item):
        return "%s/%s" % (self._folder, item)
