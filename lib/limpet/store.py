"""Where bytes lie: named items, each replaced as a whole. Layouts: PROTOCOLS.md 3 and 4.

Items: `box0` `key0` `box1` `key1` (a slot's record and its store secret), the two places of the
journal, `log0` `log1`, and `wiped`.
"""

import os
import struct
from hashlib import sha256

from micropython import const

from .errors import LimpetError

_BLOCK = const(4096)
_PAGE = const(256)  # rp2 programs whole pages of this size, esp32 anything
_ITEMS = ("box0", "box1", "key0", "key1", "log0", "log1", "wiped")
SECTORS = len(_ITEMS)  # of 4096 bytes: what a raw region needs


def find():
    """The store of this board: a raw region where it has one, otherwise the file system.

    A region is what a frozen module `limpet_board` returns from `region()` (a block device that
    takes byte offsets), or on ESP32 the data partition `limpet`.
    """
    try:
        from limpet_board import region

        return RawStore(region())
    except ImportError:
        pass
    try:
        from esp32 import Partition

        found = Partition.find(Partition.TYPE_DATA, label="limpet", block_size=_BLOCK)
        if found:
            return RawStore(found[0])
    except (ImportError, AttributeError):
        pass
    return FileStore()


def no_space():
    """The error of a full flash."""
    return LimpetError("NO_SPACE", "the flash of this board is full: remove files you do not need")


_FILL = const(600)  # bytes: too large to lie in the folder's own blocks
_CHURN = const(300)  # calls that compact the folder twice, at a program size of 32 bytes


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
        return "%s/%s" % (self._folder, item)


class RawStore:
    """One erase sector an item, on a block device with byte offsets (`ioctl` 6 erases).

    `[length u16][SHA-256 of length and data, first 6 bytes][data]`; the first page is programmed
    last. What is replaced is gone: the sector was erased.
    """

    def __init__(self, device):
        if device.ioctl(5, 0) != _BLOCK or device.ioctl(4, 0) < SECTORS:
            raise ValueError("a region of %d sectors of %d bytes" % (SECTORS, _BLOCK))
        self._device = device

    def read(self, item):
        """The item (bytearray), None when there is none."""
        sector = _ITEMS.index(item)
        head = bytearray(8)
        self._device.readblocks(sector, head, 0)
        n = head[0] << 8 | head[1]
        if n > _BLOCK - 8:
            return None
        data = bytearray(n)
        if n:
            self._device.readblocks(sector, data, 8)
        return data if head == _head(data) else None

    def write(self, item, data):
        """Replace the item; raises LimpetError FLASH. A cut leaves no item."""
        sector = _ITEMS.index(item)
        if len(data) > _BLOCK - 8:
            raise no_space()
        whole = memoryview(bytearray(_head(data)) + data)
        page = bytearray(_PAGE)
        try:
            self._erase(sector)
            for at in range((len(whole) - 1) // _PAGE * _PAGE, -1, -_PAGE):
                n = min(_PAGE, len(whole) - at)
                page[:n] = whole[at : at + n]
                for i in range(n, _PAGE):
                    page[i] = 0xFF
                self._device.writeblocks(sector, page, at)
        except OSError as e:
            raise LimpetError("FLASH", "the flash of this board does not take writes (%s)" % e)

    def erase(self, item):
        """Erase the item's sector, unless it is blank."""
        sector = _ITEMS.index(item)
        if not self._is_blank(sector):
            self._erase(sector)

    def free(self):
        """Bytes that an item may have."""
        return _BLOCK - 8

    def scrub_steps(self):
        """How many calls of `scrub` there are."""
        return SECTORS

    def scrub(self, left):
        """Erase a sector in which a cut has left something that is no item."""
        if self.read(_ITEMS[left]) is None:
            self.erase(_ITEMS[left])

    def _erase(self, sector):
        self._device.ioctl(6, sector)

    def _is_blank(self, sector):
        page = bytearray(_PAGE)
        blank = b"\xff" * _PAGE
        for at in range(0, _BLOCK, _PAGE):
            self._device.readblocks(sector, page, at)
            if page != blank:
                return False
        return True


def _head(data):
    length = struct.pack(">H", len(data))
    hash = sha256(length)
    hash.update(data)
    return length + hash.digest()[:6]
