"""NOR flash in a file: erase sets a sector to 0xFF, programming only clears bits.

Each operation reaches the file before it returns, so that the image is what a board's flash
would be at any moment of a power cut. Operations (one sector erased, one page programmed) are
counted in `power.bin`, where the host also says in which of them the power fails: bytes 0 to 8
the count, 8 to 16 the operation, 16 how much of it is done in percent, 17 whether the rest is
garbled.
"""

import errno
import hashlib

from . import config, control

_BLANK = b"\xff"


class Flash:
    """The whole chip; offsets and sizes in bytes."""

    def __init__(self):
        geometry = config.board["flash"]
        self.sector = geometry["sector"]
        self.page = geometry["page"]
        self._unit = max(self.page, 256)  # what the chip programs in one go
        # Made once: a board's flash driver takes nothing of the heap.
        self._blank = _BLANK * self.sector
        self._file = config.open("flash.bin", "r+b")
        self._wear = config.open("wear.bin", "r+b")
        self._power = config.open("power.bin", "r+b")
        self._words = bytearray(18)

    def read(self, at, buf):
        """Fill buf from offset `at`."""
        self._file.seek(at)
        self._file.readinto(buf)

    def erase(self, at):
        """Set the sector at this offset to 0xFF, and count it."""
        self._write(at, self._blank)
        n = bytearray(4)
        place = at // self.sector * 4
        self._wear.seek(place)
        self._wear.readinto(n)
        self._wear.seek(place)
        self._wear.write((int.from_bytes(n, "little") + 1).to_bytes(4, "little"))

    def program(self, at, buf):
        """Clear bits; refuses what the port's driver would do wrongly."""
        if at % self.page or len(buf) % self.page:
            raise OSError(errno.EINVAL, "only whole aligned pages of %d bytes" % self.page)
        view = memoryview(buf)
        done = 0
        while done < len(view):
            n = min(self._unit - (at + done) % self._unit, len(view) - done)
            self._program(at + done, view[done : done + n])
            done += n

    def _program(self, at, new):
        old = bytearray(len(new))
        self.read(at, old)
        if old != _BLANK * len(old):
            mixed = int.from_bytes(old, "little") & int.from_bytes(new, "little")
            new = mixed.to_bytes(len(old), "little")
        self._write(at, new)

    def _write(self, at, data):
        """One operation, which the power may not outlast."""
        words = self._words
        self._power.seek(0)
        self._power.readinto(words)
        number = int.from_bytes(words[:8], "little") + 1
        self._power.seek(0)
        self._power.write(number.to_bytes(8, "little"))
        cut = number == int.from_bytes(words[8:16], "little")
        if cut:
            data = self._cut(at, data, number, words[16], words[17])
        self._file.seek(at)
        self._file.write(data)
        if cut:
            control.end("off")

    def _cut(self, at, data, number, percent, garbled):
        """What lies there when the power fails: a bit that was to change may be either."""
        old = bytearray(len(data))
        self.read(at, old)
        done = len(data) * percent // 100
        old[:done] = data[:done]
        if garbled:
            for i in range(done, len(old)):
                if i % 32 == 0 or i == done:
                    noise = hashlib.sha256(b"%d %d" % (number, i)).digest()
                old[i] ^= (old[i] ^ data[i]) & noise[i % 32]
        return old


def uninterrupted(operation, *arguments):
    """Run a flash operation to its end: a port's driver is C, Ctrl-C cannot stop it half way."""
    interrupted = False
    while True:
        try:
            result = operation(*arguments)
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        control.say("interrupt")
    return result


class Region:
    """A block device of MicroPython over a part of the chip."""

    def __init__(self, chip, start, size):
        self._chip = chip
        self._start = start
        self._size = size

    def readblocks(self, block, buf, offset=0):
        """Fill buf from a block on."""
        uninterrupted(self._chip.read, self._at(block, offset, buf), buf)

    def writeblocks(self, block, buf, offset=None):
        """Without an offset, erase as many blocks as buf covers first."""
        uninterrupted(self._writeblocks, self._at(block, offset or 0, buf), buf, offset is None)

    def _writeblocks(self, at, buf, erase):
        if erase:
            for sector in range(at, at + len(buf), self._chip.sector):
                self._chip.erase(sector)
        self._chip.program(at, buf)

    def ioctl(self, op, arg):
        """4: blocks; 5: block size; 6: erase a block."""
        if op == 4:
            return self._size // self._chip.sector
        if op == 5:
            return self._chip.sector
        if op == 6:
            uninterrupted(self._chip.erase, self._at(arg, 0, b""))
        return 0

    def _at(self, block, offset, buf):
        at = block * self._chip.sector + offset
        if not 0 <= at <= self._size - len(buf):
            raise OSError(errno.EINVAL)
        return self._start + at
