import sys
import unittest

NETWORKS = ((b"home", b"key-of-home"), (b"shed", b""))


class Wlan:
    """A station whose fate is a list of status numbers; up when it reads 3 or 1010."""

    IF_STA = 0
    PM_NONE = 7

    def __init__(self):
        self.calls = []
        self.fates = {}
        self.fate = []
        self.settings = {}
        self.refuses = ()

    def __call__(self, interface):
        return self

    def isconnected(self):
        return bool(self.fate) and self.fate[0] in (3, 1010)

    def status(self):
        return self.fate.pop(0) if len(self.fate) > 1 else self.fate[0]

    def active(self, on):
        self.calls.append("active")

    def config(self, **options):
        for name in options:
            if name in self.refuses:
                raise ValueError(name)
        self.settings.update(options)

    def disconnect(self):
        self.fate = []

    def connect(self, ssid, key):
        self.calls.append((ssid, key))
        self.fate = list(self.fates.get(ssid, [-2]))

    def ifconfig(self, address):
        self.address = address


class Network:
    pass


network = Network()
network.WLAN = Wlan()
sys.modules["network"] = network

from limpet import wifi  # noqa: E402  the port's module has to be there first
from limpet.errors import Lost  # noqa: E402

del sys.modules["network"]  # other tests run where there is none


class Record:
    def __init__(self, networks=NETWORKS, pending=False):
        self.networks = networks
        self.pending = pending

    def all(self, tag):
        return [bytes((len(ssid),)) + ssid + key for ssid, key in self.networks]


class TestWifi(unittest.TestCase):
    def setUp(self):
        self.before = wifi.network, wifi.ticks_ms
        wifi.network = network
        self.wlan = network.WLAN = Wlan()
        self.now = 0
        self.late = 1 << 30  # ms from which the network is up after all
        wifi.ticks_ms = lambda: self.now
        self.wifi = wifi.Wifi(lambda line: None)

    def tearDown(self):
        wifi.network, wifi.ticks_ms = self.before

    def up(self, networks=NETWORKS, pending=False):
        """Bring it up: empty, or the words of the failure."""
        try:
            for raw, _, ms in self.wifi.up(Record(networks, pending)):
                self.assertTrue(raw is None)
                self.now += ms
                if self.now >= self.late:
                    self.wlan.fate = [3]
        except Lost as e:
            self.assertEqual(e.code, "WIFI")
            return e.words
        return ""

    def tried(self):
        return [call[0] for call in self.wlan.calls if call != "active"]

    def test_the_first_network_that_takes_us_in_their_order(self):
        self.wlan.fates = {"home": [1, 1, -2], "shed": [1, 2, 2, 3]}
        self.assertEqual(self.up(), "")
        self.assertEqual(self.wlan.calls, ["active", ("home", "key-of-home"), ("shed", None)])

    def test_esp32_numbers(self):
        self.wlan.fates = {"home": [1001, 1001, 201], "shed": [1001, 1001, 1010]}
        self.assertEqual(self.up(), "")
        self.assertEqual(self.tried(), ["home", "shed"])

    def test_the_one_that_worked_is_first_next_time(self):
        self.wlan.fates = {"shed": [1, 3]}
        self.up()
        self.wlan.fate = []
        self.wlan.calls.clear()
        self.up()
        self.assertEqual(self.tried(), ["shed"])

    def test_nothing_is_done_while_it_is_up(self):
        self.wlan.fate = [3]
        self.assertEqual(self.up(), "")
        self.assertEqual(self.wlan.calls, [])

    def test_a_changed_key_is_tried_though_the_old_network_is_up(self):
        self.wlan.fates = {"home": [1, 3]}
        self.up()
        self.assertEqual(self.up(), "")
        self.assertEqual(self.tried(), ["home"])
        self.wlan.fates = {"home": [1, -3]}
        self.assertTrue("home" in self.up(((b"home", b"another key"),)))
        self.wlan.fates = {"home": [1, 3]}
        self.assertEqual(self.up(), "")  # the confirmed record is next
        self.assertEqual(self.tried(), ["home"] * 3)

    def test_a_change_that_names_the_present_network_too_does_not_leave_it(self):
        self.wlan.fates = {"home": [1, 3]}
        self.up()
        self.assertEqual(self.up(((b"office", b"key of office"), NETWORKS[0])), "")
        self.assertEqual(self.tried(), ["home"])

    def test_a_record_that_has_to_be_tried_is_also_after_a_reset(self):
        self.wlan.fate = [3]
        self.wlan.fates = {"office": [1, -2]}
        self.assertTrue("office" in self.up(((b"office", b"key"),), pending=True))
        self.wlan.fates = {"home": [1, 3]}
        self.assertEqual(self.up(), "")
        self.assertEqual(self.tried(), ["office", "home"])

    def test_a_network_that_comes_up_too_late_is_not_left_again(self):
        self.wlan.fates = {"home": [2]}
        self.assertTrue("home" in self.up(NETWORKS[:1]))
        self.late = 0
        self.wlan.fate = [3]
        self.assertEqual(self.up(NETWORKS[:1]), "")
        self.assertEqual(self.tried(), ["home"])

    def test_the_end_of_the_old_link_is_awaited(self):
        self.wlan.fates = {"home": [1, 3]}
        self.up()
        disconnect = self.wlan.disconnect
        self.wlan.disconnect = lambda: None  # esp32 tells it later
        steps = self.wifi.up(Record(((b"shed", b""),)))
        next(steps)
        self.assertEqual(self.tried(), ["home"])
        disconnect()
        self.wlan.fates = {"shed": [1, 3]}
        for _ in steps:
            pass
        self.assertEqual(self.tried(), ["home", "shed"])

    def test_an_address_that_never_comes_ends_after_20_s_a_network(self):
        self.wlan.fates = {"home": [2], "shed": [1001]}
        self.assertTrue("shed" in self.up())
        self.assertTrue(40_000 <= self.now <= 40_400)

    def test_a_wrong_key_is_a_hint_after_several_failures_only(self):
        for number in (-3, 202):
            self.wifi = wifi.Wifi(lambda line: None)
            self.wlan.fates = {"home": [-2], "shed": [1, number]}
            hints = ["key" in self.up() for _ in range(4)]
            self.assertEqual(hints, [False, False, True, True])

    def test_the_port_makes_no_tries_of_its_own_and_does_not_sleep(self):
        self.wlan.fates = {"home": [1, 3]}
        self.up()
        self.assertEqual(self.wlan.settings, {"reconnects": 0, "pm": 7})

    def test_a_port_without_these_settings(self):
        self.wlan.refuses = ("reconnects", "pm")
        self.wlan.fates = {"home": [1, 3]}
        self.assertEqual(self.up(), "")

    def test_a_static_address(self):
        address = ("10.0.0.2", "255.0.0.0", "10.0.0.1", "10.0.0.1")
        self.wifi = wifi.Wifi(lambda line: None, address=address)
        self.wlan.fates = {"home": [1, 3]}
        self.up()
        self.assertEqual(self.wlan.address, address)


if __name__ == "__main__":
    unittest.main()
