"""The port's I2C: parts that are nothing but their registers."""

import errno

from . import config


class I2C:
    """A bus: what is on it is in the settings, `i2c`: {"address": {"first register": "hex"}}.

    What a sketch writes into a register is kept over the settings; nothing acts on it.
    """

    def __init__(self, id=-1, *, scl=None, sda=None, freq=400_000, timeout=50_000):
        self._written = {}

    def scan(self):
        """Addresses that answer."""
        return sorted(int(address) for address in config.setting("i2c", {}))

    def readfrom_mem(self, address, register, count):
        """That many bytes from a register on."""
        part = self._part(address)
        return bytes([self._read(part, address, register + i) for i in range(count)])

    def writeto_mem(self, address, register, data):
        """Bytes into a register and those behind it."""
        self._part(address)
        for i, value in enumerate(data):
            self._written[(address, register + i)] = value

    def _part(self, address):
        found = config.setting("i2c", {}).get(str(address))
        if found is None:
            # machine_i2c.c of rp2, and of esp32
            raise OSError(errno.EIO if config.board["port"] == "rp2" else errno.ENODEV)
        return [(int(first), bytes.fromhex(text)) for first, text in found.items()]

    def _read(self, part, address, register):
        if (address, register) in self._written:
            return self._written[(address, register)]
        for first, content in part:
            if first <= register < first + len(content):
                return content[register - first]
        return 0


SoftI2C = I2C
