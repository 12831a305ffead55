"""Where bytes lie: two slots, each with a box and its key material, and the list of key sources.

A file of LittleFS that is written with open, write and close is whole or not there, also when
power is cut (measured at every cut point). What it replaced stays readable in the flash.
"""

import os

_BLOCK = 4096


class NoSpace(Exception):
    """The flash has no room."""


class FileStore:
    """Files in one folder: `0.box` and `0.key`, `1.box` and `1.key`, `sources`."""

    def __init__(self, folder="/limpet"):
        self._folder = folder

    def read(self, slot):
        """The box (bytearray) of slot 0 or 1, None when there is none."""
        return self._read("%d.box" % slot)

    def write(self, slot, box):
        """Replace the box of a slot."""
        self._write("%d.box" % slot, box)

    def erase(self, slot):
        """Remove the box of a slot, then its key: in between it does not open."""
        self._remove("%d.box" % slot)
        self._remove("%d.key" % slot)

    def read_key(self, slot):
        """The key material of a slot, None when there is none."""
        return self._read("%d.key" % slot)

    def write_key(self, slot, key):
        """Replace the key material of a slot."""
        self._write("%d.key" % slot, key)

    def read_sources(self):
        """Numbers of the key sources that the kit allowed on this board, None when it did not."""
        return self._read("sources")

    def write_sources(self, numbers):
        """Replace the list of allowed key sources."""
        self._write("sources", numbers)

    def _path(self, name):
        return "%s/%s" % (self._folder, name)

    def _read(self, name):
        try:
            data = bytearray(os.stat(self._path(name))[6])
            with open(self._path(name), "rb") as f:
                n = f.readinto(data)
        except OSError:
            return None
        return data if n == len(data) else None

    def _write(self, name, data):
        try:
            os.mkdir(self._folder)
        except OSError:
            pass  # it is there
        free = os.statvfs(self._folder)
        # The old file stays until the new one is closed; a new folder entry may take a block.
        if free[1] * free[4] < len(data) + 3 * _BLOCK:
            raise NoSpace()
        with open(self._path(name), "wb") as f:
            f.write(data)

    def _remove(self, name):
        try:
            os.remove(self._path(name))
        except OSError:
            pass  # it was not there
