"""NOR flash in memory, on MicroPython: every operation can be had again, and half of one."""

BLANK = b"\xff" * 4096


class Nor:
    """NOR flash over `image`: erase sets bits, programming clears them. `log` gets each operation
    as (offset, the bytes then there, `noted` at that moment)."""

    def __init__(self, image, page, log=None):
        self.image = image
        self.page = page
        self.log = log
        self.noted = ()

    def readblocks(self, block, buf, offset=0):
        at = block * 4096 + offset
        buf[:] = self.image[at : at + len(buf)]
        return 0

    def writeblocks(self, block, buf, offset=None):
        if offset is None:
            for i in range(len(buf) // 4096):
                self.ioctl(6, block + i)
        at = block * 4096 + (offset or 0)
        for i in range(0, len(buf), self.page):
            old = self.image[at + i : at + i + self.page]
            self._write(at + i, bytes([old[k] & buf[i + k] for k in range(len(old))]))
        return 0

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.image) // 4096
        if operation == 5:
            return 4096
        if operation == 6:
            self._write(argument * 4096, BLANK)
        return 0

    def _write(self, at, new):
        if self.log is not None:
            self.log.append((at, new, self.noted))
        self.image[at : at + len(new)] = new


def cut(image, at, new, percent, noise):
    """A copy of `image` after so much of one operation; a bit that was to change may be either."""
    left = bytearray(image)
    done = len(new) * percent // 100
    left[at : at + done] = new[:done]
    for i in range(done, len(new)):
        noise = (noise * 1103515245 + 12345) & 0x7FFFFFFF
        old = left[at + i]
        left[at + i] = old ^ ((old ^ new[i]) & (noise >> 16))
    return left
