"""The port's `network`: a WLAN whose access points are in the settings, with the port's numbers.

`cable` in the settings: a board without need of Wi-Fi. `networks` there: {"ssid": "key"}, an
empty key is an open network, "*" any; absent: every network exists and takes every key. `join_ms`
and `dhcp_ms` delay the link and the address.
"""

from time import ticks_diff, ticks_ms

from . import config, control

STA_IF = 0
AP_IF = 1
_RP2 = config.board["port"] == "rp2"

if _RP2:
    STAT_IDLE = 0
    STAT_CONNECTING = 1
    STAT_WRONG_PASSWORD = -3
    STAT_NO_AP_FOUND = -2
    STAT_CONNECT_FAIL = -1
    STAT_GOT_IP = 3
    _NO_ADDRESS = 2
    _LOST = -1
else:
    STAT_IDLE = 1000
    STAT_CONNECTING = 1001
    STAT_GOT_IP = 1010
    STAT_NO_AP_FOUND = 201
    STAT_WRONG_PASSWORD = 202
    STAT_BEACON_TIMEOUT = 200
    STAT_ASSOC_FAIL = 203
    STAT_HANDSHAKE_TIMEOUT = 204
    _NO_ADDRESS = 1001
    _LOST = 200

_ADDRESS = ("192.168.4.16", "255.255.255.0", "192.168.4.1", "0.0.0.0")
_country = ["XX"]
_name = ["PicoW" if _RP2 else "mpy-esp32"]


class _Station:
    """The one station interface of the chip."""

    def __init__(self):
        kept = config.state.get("wlan") or {}
        self.on = kept.get("on", False)
        self.ssid = kept.get("ssid")
        self.key = kept.get("key", "")
        self.since = ticks_ms() - 3_600_000  # what was joined before a soft reset has its address
        self.was_up = self.ssid is not None
        self.settings = {"pm": 0xA11142 if _RP2 else 1, "reconnects": -1}

    def keep(self):
        control.keep("wlan", {"on": self.on, "ssid": self.ssid, "key": self.key})

    def status(self):
        """The port's number for how it stands now."""
        if not self.on or self.ssid is None:
            return STAT_IDLE
        known = config.recent("networks")
        passed = ticks_diff(ticks_ms(), self.since)
        if passed < config.recent("join_ms", 0):
            return STAT_CONNECTING
        if known is not None:
            wanted = known.get(self.ssid, known.get("*"))
            if wanted is None:
                return _LOST if self.was_up else STAT_NO_AP_FOUND
            if wanted not in ("*", self.key):
                return STAT_WRONG_PASSWORD
        if passed < config.recent("join_ms", 0) + config.recent("dhcp_ms", 0):
            return _NO_ADDRESS
        self.was_up = True
        return STAT_GOT_IP


_station = _Station()


def online():
    """Whether there is a route: by a cable, or by a station with link and address."""
    return config.recent("cable", False) or _station.status() == STAT_GOT_IP


_passing = [True, ticks_ms() - 3_600_000]


def passing():
    """Whether packets pass, as of at most 20 ms ago: not when the access point is lost, nor with
    the setting `black_hole`, where only the packets are."""
    if ticks_diff(ticks_ms(), _passing[1]) > 20:
        _passing[0] = not config.recent("black_hole", False) and online()
        _passing[1] = ticks_ms()
    return _passing[0]


class WLAN:
    """The port's WLAN class, station only: the access point interface exists and stays off."""

    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = 0x10 if _RP2 else 0
    PM_PERFORMANCE = 0xA11142 if _RP2 else 1
    PM_POWERSAVE = 0xA11C82 if _RP2 else 2
    SEC_OPEN = 0
    SEC_WPA_WPA2 = 0x400006 if _RP2 else 4

    def __init__(self, interface=STA_IF):
        if interface not in (STA_IF, AP_IF):
            raise ValueError("invalid WLAN interface")
        self._is_station = interface == STA_IF

    def active(self, on=None):
        """Get or set whether the interface runs."""
        if on is None:
            return self._is_station and _station.on
        if self._is_station:
            _station.on = bool(on)
            if not on:
                _station.ssid = None
            _station.keep()
        return bool(on)

    def connect(self, ssid=None, key=None, *, bssid=None, security=None):
        """Begin to join; returns at once. esp32 raises OSError while it is at it already."""
        if not _station.on:
            if not _RP2:
                raise OSError("Wifi Not Started")
            return
        if not _RP2 and _station.status() == STAT_CONNECTING:
            raise OSError("Wifi Internal State Error")
        _station.ssid = ssid.decode() if isinstance(ssid, bytes) else ssid
        _station.key = (key.decode() if isinstance(key, bytes) else key) or ""
        _station.since = ticks_ms()
        _station.was_up = False
        _station.keep()

    def disconnect(self):
        """Leave the network."""
        _station.ssid = None
        _station.keep()

    def isconnected(self):
        """Link and address are there."""
        return self._is_station and _station.status() == STAT_GOT_IP

    def status(self, what=None):
        """The port's status number, or `rssi`."""
        if what is None:
            return _station.status()
        if what == "rssi":
            return config.setting("rssi", -60)
        raise ValueError("unknown status param")

    def scan(self):
        """[(ssid, bssid, channel, rssi, security, hidden)] of the networks in the settings."""
        found = []
        for ssid, key in (config.setting("networks") or {}).items():
            if ssid != "*":
                found.append((ssid.encode(), b"\2\0\0\0\0\1", 6, -60, 3 if key else 0, False))
        return found

    def config(self, *names, **values):
        """One value by name, or set some."""
        if names:
            name = names[0]
            if name == "mac":
                return b"\2\0" + (config.board["unique_id"].encode() + b"0000")[:4]
            if name in ("ssid", "essid"):
                return _station.ssid or ""
            if name in _station.settings:
                return _station.settings[name]
            raise ValueError("unknown config param")
        for name in values:
            known = ("pm", "hostname", "txpower", "channel", "mac", "ssid", "security", "key")
            if name not in known and (_RP2 or name not in ("reconnects", "protocol")):
                raise ValueError("unknown config param")
        _station.settings.update(values)
        return None

    def ifconfig(self, wanted=None):
        """(address, mask, gateway, DNS server)."""
        if wanted is not None:
            return None
        return _ADDRESS if self.isconnected() else ("0.0.0.0",) * 4

    def ipconfig(self, *names, **values):
        """`addr4` and others by name."""
        if not names:
            return None
        if names[0] == "addr4":
            return _ADDRESS[:2] if self.isconnected() else ("0.0.0.0", "0.0.0.0")
        if names[0] == "gw4":
            return _ADDRESS[2]
        raise ValueError("unknown config param")


def country(code=None):
    """Get or set the regulatory domain."""
    if code is None:
        return _country[0]
    _country[0] = code
    return None


def hostname(name=None):
    """Get or set the name for DHCP."""
    if name is None:
        return _name[0]
    _name[0] = name
    return None


def ipconfig(*names, **values):
    """`dns` by name, or settings for all interfaces. No DNS server listens here unless the
    setting `dns` names one: names go through `getaddrinfo` then."""
    if names and names[0] == "dns":
        return config.setting("dns", _ADDRESS[3])
    return None


class _Lan:
    """A port of Ethernet, on esp32: its cable is in when the setting `cable` is true."""

    def __init__(self, id=None, *, mdc=None, mdio=None, power=None, phy_addr, phy_type, **more):
        self._on = False

    def active(self, on=None):
        """Switch it on or off; whether it is."""
        if on is None:
            return self._on
        self._on = bool(on)
        return None

    def isconnected(self):
        """Whether it has an address."""
        return self._on and config.setting("cable", False)

    def ifconfig(self, new=None):
        """(address, mask, gateway, DNS server)."""
        return _ADDRESS if self.isconnected() else ("0.0.0.0",) * 4


if not _RP2:
    LAN = _Lan
    PHY_LAN8720 = 1
