"""A store on a raw region of the flash, where an erase can be forced: PROTOCOLS.md 3 and 4."""

import struct
from hashlib import sha256

from micropython import const

from .errors import LimpetError

_BLOCK = const(4096)
_PAGE = const(256)  # rp2 programs whole pages of this size, esp32 anything
ITEMS = ("box0", "box1", "key0", "key1", "log0", "log1", "wiped")  # in this order: store.py
SECTORS = len(ITEMS)  # of 4096 bytes: what a raw region needs


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
        sector = ITEMS.index(item)
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
        sector = ITEMS.index(item)
        if len(data) > _BLOCK - 8:
            raise LimpetError("NO_SPACE")
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
            raise LimpetError("FLASH", e)

    def erase(self, item):
        """Erase the item's sector, unless it is blank."""
        sector = ITEMS.index(item)
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
        if self.read(ITEMS[left]) is None:
            self.erase(ITEMS[left])

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
