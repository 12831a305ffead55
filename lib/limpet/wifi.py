"""Joining one of several Wi-Fi networks, in their order, on CYW43 and ESP32 alike."""

import asyncio

import network
from micropython import const

from .errors import Lost

_JOIN_MS = const(20_000)  # for one network, address included
_STEP_MS = const(100)


class Wifi:
    """`networks` is a list of (ssid, key) as bytes; an empty key is an open network."""

    def __init__(self, networks, log):
        self._networks = networks
        self._log = log
        self._first = 0
        station = getattr(network.WLAN, "IF_STA", None)
        self._wlan = network.WLAN(network.STA_IF if station is None else station)

    def connected(self):
        """Whether the interface has a link and an address."""
        return self._wlan.isconnected()

    async def up(self):
        """Return when the interface is up; raises Lost when no network could be joined.

        isconnected() is only a beginning: MQTT's liveness decides whether the link works.
        """
        wlan = self._wlan
        if wlan.isconnected():
            return
        wlan.active(True)
        try:
            wlan.config(reconnects=0)  # esp32 would try the wrong network for ever
        except (ValueError, OSError, TypeError):
            pass  # rp2 makes no tries of its own
        count = len(self._networks)
        why = ""
        for i in range(count):
            ssid, key = self._networks[(self._first + i) % count]
            why = await self._join(ssid.decode(), key.decode())
            if not why:
                self._first = (self._first + i) % count
                return
        raise Lost("WIFI", "no Wi-Fi network could be joined (%s)" % why)

    async def _join(self, ssid, key):
        """Try one network; empty when joined, otherwise why not."""
        wlan = self._wlan
        try:
            wlan.disconnect()
            wlan.connect(ssid, key or None)
        except OSError as e:
            return "%s: %s" % (ssid, e)
        for _ in range(_JOIN_MS // _STEP_MS):
            await asyncio.sleep_ms(_STEP_MS)
            if wlan.isconnected():
                self._log("Wi-Fi %s joined" % ssid)
                return ""
            status = wlan.status()
            # rp2 tells failures by numbers below 0, esp32 by disconnect reasons 2 to 255
            if status < 0 or (1 < status < 256 and status not in (2, 3)):
                break
        return "%s: status %d%s" % (
            ssid,
            wlan.status(),
            ", is the key right?" if wlan.status() in (-3, 15, 202, 204) else "",
        )
