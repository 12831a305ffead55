"""The port's own module, `rp2` or `esp32`: its way to the flash."""

import errno

from . import config
from .flash import Flash, Region

_chip = None


def chip():
    """The one flash chip."""
    global _chip
    if _chip is None:
        _chip = Flash()
    return _chip


def _row(label):
    for row in config.board["partitions"]:
        if row["label"] == label:
            return row
    raise OSError(errno.ENOENT)


def root():
    """The block device of the file system."""
    return Rp2.Flash() if config.board["port"] == "rp2" else Esp32.Partition("vfs")


class _Rp2Flash(Region):
    """`rp2.Flash(start=, len=)`: only inside the file system's region."""

    def __init__(self, start=-1, len=-1):
        row = _row("vfs")
        if start == -1 and len == -1:
            start, len = 0, row["size"]
        sector = chip().sector
        if start % sector or len % sector or not 0 <= start < start + len <= row["size"]:
            raise ValueError("invalid flash region")
        super().__init__(chip(), row["offset"] + start, len)


class Rp2:
    """Stands for the module `rp2`."""

    __name__ = "rp2"
    Flash = _Rp2Flash

    @staticmethod
    def country(code=None):
        """Replaced by `network.country`."""
        return "XX"


class _Partition(Region):
    """`esp32.Partition`: a row of the partition table, read, written and erased as such."""

    TYPE_APP = 0
    TYPE_DATA = 1
    BOOT = 0
    RUNNING = 1

    def __init__(self, id, block_size=4096):
        label = "factory" if id in (self.BOOT, self.RUNNING) else id
        self._row = _row(label)
        super().__init__(chip(), self._row["offset"], self._row["size"])

    @classmethod
    def find(cls, type=TYPE_APP, subtype=0xFF, label=None, block_size=4096):
        """All rows that match."""
        found = []
        for row in config.board["partitions"]:
            if row["type"] != type or (subtype != 0xFF and row["subtype"] != subtype):
                continue
            if label is None or row["label"] == label:
                found.append(_Partition(row["label"]))
        return found

    def info(self):
        """(type, subtype, offset, size, label, encrypted)."""
        row = self._row
        return (row["type"], row["subtype"], row["offset"], row["size"], row["label"], False)

    @staticmethod
    def mark_app_valid_cancel_rollback():
        """There is one application: nothing to keep."""


class Esp32:
    """Stands for the module `esp32`."""

    __name__ = "esp32"
    Partition = _Partition
    HEAP_DATA = 4
    HEAP_EXEC = 1

    @staticmethod
    def mcu_temperature():
        """Of the chip, in degrees."""
        return config.setting("temperature", 42)

    @staticmethod
    def idf_heap_info(capabilities):
        """[(total, free, largest free, least free)]: a plain ESP32 with Wi-Fi up."""
        return [(166_000, 80_000, 65_000, 60_000)]
