"""The port's `dht`: what a sensor reads is in the settings, `dht`: {"pin": [celsius, percent]}.

A pin without an entry has no sensor: `measure` raises what the real driver raises then.
"""

import errno

from . import config


class DHT22:
    """A sensor on a `machine.Pin`; also stands for the DHT11."""

    def __init__(self, pin):
        self._pin = pin
        self._reading = None

    def measure(self):
        """Take a reading."""
        reading = config.setting("dht", {}).get(str(self._pin.id))
        if reading is None:
            raise OSError(errno.ETIMEDOUT)
        self._reading = reading

    def temperature(self):
        """Degrees Celsius of the last reading."""
        return self._reading[0]

    def humidity(self):
        """Percent of the last reading."""
        return self._reading[1]


DHT11 = DHT22
