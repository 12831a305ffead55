"""Where bytes lie: named items, each replaced as a whole. Layouts: PROTOCOLS.md 3 and 4.

Items: `box0` `key0` `box1` `key1` (a slot's record and its store secret), the two places of the
journal, `log0` `log1`, and `wiped`.
"""

import os

from micropython import const

from .errors import LimpetError

_BLOCK = const(4096)


def find():
    """The store of this board: a raw region where it has one, otherwise the file system.

    A region is what a frozen module `limpet_board` returns from `region()` (a block device that
    takes byte offsets), or on ESP32 the data partition `limpet`.
    """
    try:
        from limpet_board import region

        return _raw(region())
    except ImportError:
        pass
    try:
        from esp32 import Partition

        found = Partition.find(Partition.TYPE_DATA, label="limpet", block_size=_BLOCK)
        if found:
            return _raw(found[0])
    except (ImportError, AttributeError):
        pass
    return FileStore()


def _raw(device):
    from .region import RawStore

    return RawStore(device)


_FILL = const(600)  # bytes: too large to lie in the folder's own blocks
_CHURN = const(300)  # calls that compact the folder twice, at a program size of 32 bytes


class FileStore:
    """One file an item, in one folder.

    A file of LittleFS that is written with open, write and close is whole or not there, also
    when power is cut (measured at every cut point). What it replaced stays readable in the
    flash until `scrub` is done.
    """

    def __init__(self, folder="/.limpet"):
        self.folder = folder

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
            os.mkdir(self.folder)
        except OSError:
            pass  # it is there
        # The old file stays until the new one is closed; a new folder entry may take a block.
        if self.free() < len(data) + 3 * _BLOCK:
            raise LimpetError("NO_SPACE")
        try:
            with open(self._path(item), "wb") as f:
                f.write(data)
        except OSError as e:
            raise LimpetError("FLASH", e)

    def erase(self, item):
        """Remove the item; nothing happens when there is none."""
        try:
            os.remove(self._path(item))
        except OSError:
            pass  # it was not there

    def free(self):
        """Bytes that are free for files."""
        try:
            state = os.statvfs(self.folder)
        except OSError:  # no folder yet
            state = os.statvfs("/")
        # LittleFS may count a block twice: on a full flash the rest is -3, as unsigned 32 bits.
        return state[1] * state[4] if state[4] <= state[2] else 0

    def scrub_steps(self):
        """How many calls of `scrub` reach every block that is free now."""
        return max(self.free() // _BLOCK + 8, _CHURN)

    def scrub(self, left):
        """Replace a small file; `left` calls are to come, the last one removes it.

        LittleFS takes the free blocks in turn and erases each before use, and it compacts the
        folder's own blocks, where files of less than 513 bytes lie, as they fill.
        """
        try:
            with open(self._path("scrub"), "wb") as f:
                f.write(bytes(_FILL))
        except OSError:
            pass  # full: then there is little to reach
        if not left:
            self.erase("scrub")

    def _path(self, item):
        return "%s/%s" % (self.folder, item)
