"""Clients of a broker with a device's account, on a library that is not ours."""

import contextlib
import queue
import secrets
import socket
import threading
import time

import paho.mqtt.client as paho
from limpet_kit.broker import accounts, client
from limpet_kit.broker.accounts import Account
from limpet_kit.ledger import ACTIVE, Unit
from paho.mqtt.enums import CallbackAPIVersion

WAIT_S = 20
QUIET_S = 0.3  # how long nothing has to happen for "nothing happens"


class Device:
    """One device: its account, its password, and what it was sent."""

    def __init__(self, broker, name, profile=None):
        self.name = name
        self.settings = broker.settings
        self.password = accounts.draw_password(profile or broker.settings.profile)
        self.account = Account(
            accounts.draw_account(),
            broker.settings.verifier(self.password),
            accounts.device_acl(name),
        )
        self.messages = queue.Queue()
        self.gone = threading.Event()
        self.granted = queue.Queue()

    def login(self, password=None):
        """CONNACK's code."""
        return client.login(self.settings, self.account.name, password or self.password)

    @contextlib.contextmanager
    def online(self, will=None, keepalive=30, client_id=None, clean=True):
        mqtt = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id or self.account.name,
            clean_session=clean,
            reconnect_on_failure=False,
        )
        mqtt.username_pw_set(self.account.name, None)
        mqtt._password = self.password.reveal()  # paho encodes a str as UTF-8; ours is bytes
        mqtt.tls_set_context(client.context(self.settings))
        if will:
            mqtt.will_set(*will)
        ready = queue.Queue()
        mqtt.on_connect = lambda c, d, flags, code, p: ready.put(code)
        mqtt.on_message = lambda c, d, m: self.messages.put((m.topic, m.payload, m.retain))
        mqtt.on_disconnect = lambda c, d, flags, code, p: self.gone.set()
        mqtt.on_subscribe = lambda c, d, number, codes, p: self.granted.put(codes)
        self.gone.clear()
        mqtt.connect(self.settings.address, self.settings.port, keepalive)
        mqtt.loop_start()
        try:
            assert not ready.get(timeout=WAIT_S).is_failure
            yield mqtt
        finally:
            mqtt.disconnect()
            mqtt.loop_stop()

    def subscribe(self, mqtt, topic_filter, qos=1):
        mqtt.subscribe(topic_filter, qos)
        return self.granted.get(timeout=WAIT_S)[0]

    def next(self, timeout=WAIT_S):
        try:
            return self.messages.get(timeout=timeout)
        except queue.Empty:
            return None


def publish(mqtt, topic, payload, qos=1, retain=False):
    info = mqtt.publish(topic, payload, qos, retain)
    info.wait_for_publish(WAIT_S)
    assert info.is_published()


def arrives(kit, topic, timeout=WAIT_S):
    found = kit.wait(lambda t, payload: t == topic, timeout)
    return found and found[1]


def break_link(mqtt):
    """End the connection as a power cut does: no DISCONNECT."""
    raw = mqtt.socket()
    mqtt.on_disconnect = None
    raw.shutdown(socket.SHUT_RDWR)


def enrol(ledger, device, state=ACTIVE):
    """Put a device into the ledger as if it had been enrolled; its row."""
    settings, now = device.settings, int(time.time())
    ledger.know_broker(settings.kit, settings.folder, settings.server)
    unit = Unit(
        secrets.token_hex(16),
        device.name,
        state,
        settings.kit,
        "00" * 8,
        settings.profile,
        1,
        1,
        secrets.token_hex(8),
        "a board",
        "1.29.0",
        "0.1.0",
        None,
        now,
        now,
    )
    ledger.add(unit, device.account.name, device.account.verifier)
    return unit
