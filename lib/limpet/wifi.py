"""Joining one of several Wi-Fi networks, in their order, on CYW43 and ESP32 alike.

A generator of waits, as link.py describes them.
"""

from hashlib import sha256
from time import ticks_add, ticks_diff, ticks_ms

import network
from micropython import const

from . import record as fields
from .errors import Lost

_JOIN_MS = const(20_000)  # for one network, address included
_STEP_MS = const(100)
_LEAVE = const(10)  # steps
_WRONG_KEY = const((-3, 15, 202, 204))  # rp2; esp32: handshake time-out, authentication failed
_HINT_FROM = const(3)  # failures in a row before the key is named: any of them can be the radio's


class Wifi:
    """Brings the station interface up, and again when it is not.

    `country` is two letters; `address` is (address, mask, gateway, DNS server) when there is no
    DHCP; `save` leaves the radio's power save on, which costs 100 ms and more a message.
    """

    def __init__(self, log, country=None, address=None, save=False):
        if country:
            network.country(country)
        station = getattr(network.WLAN, "IF_STA", None)
        self._wlan = network.WLAN(network.STA_IF if station is None else station)
        self._log = log
        self._address = address
        self._save = save
        self._first = 0
        self._linked = None  # digest of the network that we are in: name and key
        self._keys_refused = 0

    def up(self, record):
        """Return when the interface is up, in a network of this record; a generator.

        Raises Lost (WIFI) when none of the record's networks could be joined. isconnected() is
        only a beginning: MQTT's liveness decides whether the link works.
        """
        wlan = self._wlan
        networks = record.all(fields.NETWORK)
        if not networks or (wlan.isconnected() and self.same(networks, record.pending)):
            return
        wlan.active(True)
        # esp32 would try the wrong network for ever; rp2 makes no tries of its own.
        self._configure(reconnects=0)
        if not self._save:
            self._configure(pm=getattr(network.WLAN, "PM_NONE", 0))
        if self._address:
            wlan.ifconfig(self._address)
        count = len(networks)
        why = ""
        for i in range(count):
            at = (self._first + i) % count
            self._linked = sha256(networks[at]).digest()  # also of one that comes up too late
            why = yield from self._join(networks[at])
            if not why:
                self._first = at
                self._keys_refused = 0
                return
        raise Lost("WIFI", why)

    def same(self, entries, pending):
        """Whether we are in one of these, so that none has to be tried.

        One that was joined before a reset, or by the sketch, is taken as it is, unless the record
        has yet to prove itself: with which key it was is not known.
        """
        if self._linked:
            return self._linked in [sha256(field).digest() for field in entries]
        return not pending

    def _configure(self, **options):
        try:
            self._wlan.config(**options)
        except (ValueError, OSError, TypeError):
            pass  # not a port that has it

    def _join(self, field):
        """Try one network (length, SSID, key); empty when joined, otherwise why not."""
        wlan = self._wlan
        n = field[0] + 1
        ssid = field[1:n].decode()
        try:
            wlan.disconnect()
            # esp32 tells the end of the old link later, and it would pass for that of the new one.
            for _ in range(_LEAVE):
                if not wlan.isconnected():
                    break
                yield None, False, _STEP_MS
            wlan.connect(ssid, field[n:].decode() or None)
        except OSError as e:
            return "%s: %s" % (ssid, e)
        until = ticks_add(ticks_ms(), _JOIN_MS)
        while ticks_diff(until, ticks_ms()) > 0:
            yield None, False, _STEP_MS
            if wlan.isconnected():
                self._log("Wi-Fi %s joined" % ssid)
                return ""
            status = wlan.status()
            # rp2 tells failures by numbers below 0, esp32 by disconnect reasons from 4 to 255
            if status < 0 or 3 < status < 256:
                break
        status = wlan.status()
        hint = ""
        if status in _WRONG_KEY:
            self._keys_refused += 1
            if self._keys_refused >= _HINT_FROM:
                hint = ", is the key right?"
        return "%s: status %d%s" % (ssid, status, hint)
