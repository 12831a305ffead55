"""The port's `machine`: identity, resets, clock, watchdog, and pins that remember."""

from time import sleep_ms, ticks_ms  # noqa: F401

import uctypes
from machine import Signal, idle, mem8, mem16, mem32, time_pulse_us  # noqa: F401

from . import clock, config, control
from .bus import I2C, SoftI2C  # noqa: F401

_RP2 = config.board["port"] == "rp2"

# rp2 has two causes (ports/rp2/modmachine.c); esp32 five (ports/esp32/modmachine.c).
PWRON_RESET = 1
WDT_RESET = 3
if not _RP2:
    HARD_RESET = 2
    DEEPSLEEP_RESET = 4
    SOFT_RESET = 5

_causes = {"power": 1, "hard": 3, "watchdog": 3, "sleep": 3, "soft": None}
if not _RP2:
    _causes = {"power": 1, "hard": 2, "watchdog": 3, "sleep": 4, "soft": 5}


def unique_id():
    """The board's number: public, and copied with the flash chip on an RP2040."""
    return bytes.fromhex(config.board["unique_id"])


def reset_cause():
    """Why the board started. rp2 cannot tell a reset from a watchdog; a soft reset keeps it."""
    return _causes[config.state["cause"]] or _causes[config.state["hard_cause"]]


def reset():
    """Hard reset."""
    control.end("reset")


def soft_reset():
    """A new interpreter; clock, Wi-Fi and watchdog go on."""
    raise SystemExit


def bootloader(timeout=None):
    """The board would wait for a firmware; here it goes off."""
    control.end("off")


def deepsleep(ms=None):
    """Off for this long, then a start as after a reset; without a time until it is reset.

    The setting `sleep_factor` makes nights shorter for tests.
    """
    control.end("sleep", ms and ms // config.setting("sleep_factor", 1))


def lightsleep(ms=0):
    """Wait."""
    sleep_ms(ms)


def freq(hz=None):
    """CPU clock in Hz."""
    return 125_000_000 if _RP2 else 160_000_000


def disable_irq():
    """Nothing to switch off here."""
    return True


def enable_irq(state=True):
    """Nothing to switch on here."""


_backup = bytearray(bytes.fromhex(config.state["backup"]))


def mem_backup(region=0):
    """Memory that outlives every reset but not power-off: 28 bytes on rp2, 2,048 on esp32."""
    if region:
        raise ValueError("region")
    return memoryview(_backup)


control.say("memory", uctypes.addressof(_backup), len(_backup))


class RTC:
    """The clock that `time` reads, settable."""

    def __init__(self, id=0):
        pass

    def datetime(self, when=None):
        """Get or set (year, month, day, weekday, hours, minutes, seconds, subseconds)."""
        if when is not None:
            year, month, day, _, hour, minute, second, _ = when
            local = clock.mktime((year, month, day, hour, minute, second, 0, 0))
            clock.set_clock(local + clock.EPOCH)
            return None
        t = clock.gmtime()
        return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], 0 if _RP2 else clock.subseconds())

    if not _RP2:

        def memory(self, data=None):
            """RTC memory: the same bytes as `mem_backup`, after a length of two bytes."""
            if data is None:
                return bytes(_backup[2 : 2 + int.from_bytes(_backup[:2], "little")])
            if len(data) > len(_backup) - 2:
                raise ValueError("buffer too long")
            _backup[:2] = len(data).to_bytes(2, "little")
            _backup[2 : 2 + len(data)] = data
            return None


class WDT:
    """Resets the board when it is not fed in time; goes on through soft resets."""

    def __init__(self, id=0, timeout=5000):
        if timeout < 1 or (_RP2 and timeout > 8388):
            raise ValueError("timeout exceeds 8388")
        control.say("watchdog", timeout)

    def feed(self):
        """Start the time-out anew."""
        control.say("feed")


class Pin:
    """A pin: it remembers its value, and what a test put on it is in the settings, `pins`."""

    IN = 0
    OUT = 1 if _RP2 else 3
    OPEN_DRAIN = 2 if _RP2 else 7
    PULL_UP = 1 if _RP2 else 2
    PULL_DOWN = 2 if _RP2 else 1
    IRQ_RISING = 8 if _RP2 else 1
    IRQ_FALLING = 4 if _RP2 else 2

    _levels = {}

    def __init__(self, id, mode=-1, pull=-1, value=None):
        if isinstance(id, str) and not (_RP2 and id == "LED"):
            raise ValueError("unknown named pin")
        self.id = id
        self._mode = mode
        self.init(mode, pull, value)

    def init(self, mode=-1, pull=-1, value=None):
        """Direction and level."""
        if mode != -1:
            self._mode = mode
        if value is not None:
            Pin._levels[self.id] = 1 if value else 0

    def value(self, level=None):
        """The level, or set it."""
        if level is None:
            if self._mode in (self.OUT, self.OPEN_DRAIN):
                return Pin._levels.get(self.id, 0)
            return config.setting("pins", {}).get(str(self.id), Pin._levels.get(self.id, 0))
        Pin._levels[self.id] = 1 if level else 0
        return None

    __call__ = value

    def on(self):
        """High."""
        self.value(1)

    def off(self):
        """Low."""
        self.value(0)

    def toggle(self):
        """The other level."""
        self.value(not self.value())

    def irq(self, handler=None, trigger=0):
        """Accepted; nothing calls it."""


class ADC:
    """An input; what it reads is in the settings, `adc`, by channel; channel 4 reads 27 C."""

    CORE_TEMP = 4

    def __init__(self, source):
        self._source = source

    def read_u16(self):
        """0 to 65535 for 0 to 3.3 V."""
        given = config.setting("adc", {})
        return given.get(str(self._source), 14_021)  # 0.706 V: 27 degrees (RP2040 data sheet)

    def read_uv(self):
        """The same in uV."""
        return self.read_u16() * 3_300_000 // 65535
