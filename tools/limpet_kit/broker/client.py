"""The kit as a client of its broker: over TLS that is verified, with the kit's own account.

It connects to this machine's own address and checks the certificate for the first name that
boards dial: so it works also where that name does not resolve, and says it when the certificate
is not the one that boards would accept.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import queue
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from ..errors import NO_BROKER, USAGE, KitError
from ..secret import Secret
from . import connect, retained, rules
from .files import try_lock
from .settings import Settings

TIMEOUT_S = 10.0
KEEPALIVE_S = 30
LOOK_S = 0.25  # between two looks whether waiting has a point
_MARKER = "limpet/kit/marker"  # a topic of the kit alone
KEPT = 10_000  # messages that nobody waited for


class Context(ssl.SSLContext):
    """Verifies against one anchor, and for one name whatever address was dialled."""

    name: str

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """As the base class, for our name."""
        return super().wrap_socket(*args, **{**options, "server_hostname": self.name})


def context(settings: Settings) -> Context:
    """TLS 1.2 or later that accepts only this broker's certificate for its first name."""
    made = Context(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.name = settings.names[0]
    try:
        made.load_verify_locations(settings.folder / "ca.crt")
    except (OSError, ssl.SSLError):
        raise KitError(f"{settings.folder / 'ca.crt'} is no certificate.", NO_BROKER) from None
    return made


def trusting(anchors: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later that accepts any server of these anchors, or of the system's."""
    try:
        made = ssl.create_default_context(cafile=anchors)
    except (OSError, ssl.SSLError):
        raise KitError(f"{anchors} is no certificate.", USAGE) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def login(settings: Settings, account: str, password: Secret, timeout_s: float = 5.0) -> int:
    """Try one login and leave; CONNACK's return code (0 accepted, 4 or 5 refused).

    Raises `KitError` when there is no answer: nobody listens, or it is not this broker.
    """
    hello = connect.encode(connect.Connect(account, password, account, keepalive=10))
    try:
        with dial(settings, timeout_s) as raw, context(settings).wrap_socket(raw) as link:
            link.sendall(hello)
            answer = b""
            while len(answer) < 4:
                part = link.recv(4 - len(answer))
                if not part:
                    raise KitError(f"{_where(settings)} closed the link.", NO_BROKER)
                answer += part
            link.sendall(b"\xe0\x00")
    except OSError as e:
        raise _unreachable(settings, e) from None
    if answer[:2] != b"\x20\x02":
        raise KitError(f"{_where(settings)} does not speak MQTT.", NO_BROKER)
    return answer[3]


def dial(settings: Settings, timeout_s: float) -> socket.socket:
    """A connection to the broker, to the first of its machines that answers."""
    *others, last = settings.kit_addresses
    for address in others:
        with contextlib.suppress(OSError):
            return socket.create_connection((address, settings.kit_port), timeout_s)
    return socket.create_connection((last, settings.kit_port), timeout_s)


class KitClient:
    """One session of the kit; use it as a context manager.

    Connects on entry and again when the link breaks, and restores its subscriptions. Up to
    `settings.KIT_SESSIONS` of these may be open at a time, in any number of processes.
    """

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._addresses = collections.deque(settings.kit_addresses)
        self._away: set[str] = set()  # machines that did not answer
        self._filters: dict[str, int] = {}
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue(KEPT)
        self._unclaimed: list[tuple[str, bytes]] = []
        self._answered = threading.Event()
        self._online = threading.Event()
        self._refusal: str | None = None
        self._granted: dict[int | None, list[Any]] = {}
        self._subscribed = threading.Condition()
        self._lock: int | None = None
        self._account = ""
        self._mqtt: paho.Client

    def __enter__(self) -> KitClient:
        settings = self._settings
        session = self._claim()
        self._account = settings.account or session
        self._mqtt = paho.Client(CallbackAPIVersion.VERSION2, session, reconnect_on_failure=True)
        self._mqtt.reconnect_delay_set(0.2, 5)
        self._mqtt.on_connect = self._on_connect
        self._mqtt.on_disconnect = self._on_disconnect
        self._mqtt.on_connect_fail = self._on_disconnect
        self._mqtt.on_message = self._on_message
        self._mqtt.on_subscribe = self._on_subscribe
        try:
            password = settings.kit_password().reveal().decode()
            self._mqtt.username_pw_set(self._account, password)
            self._mqtt.tls_set_context(context(settings))
            self._connect()
            self._mqtt.loop_start()
            if not self._answered.wait(self._timeout_s):
                raise KitError(f"{_where(settings)} does not answer.", NO_BROKER)
            if self._refusal:
                raise KitError(
                    f"{_where(settings)} refuses the kit's account {self._account} "
                    f"({self._refusal}). {_remedy(settings)}",
                    NO_BROKER,
                )
        except OSError as e:
            self._leave()
            raise _unreachable(settings, e) from None
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish; with QoS 1 returns when the broker has acknowledged it, else `KitError`.

        While the link is broken it waits for the next one. What is retained goes to each of the
        broker's machines (retained.py), and whoever is online gets it from each; a machine that
        is away does without.
        """
        if retain:
            self._elsewhere(lambda other: other.publish(topic, payload, qos, retain))
        published = False
        if self._online.wait(self._timeout_s):
            info = self._mqtt.publish(topic, payload, qos, retain)
            with contextlib.suppress(RuntimeError, ValueError):  # the link just broke, queue full
                info.wait_for_publish(self._timeout_s)
                published = info.is_published()
        if not published:
            raise KitError(f"{_where(self._settings)} did not take a message.", NO_BROKER)

    def subscribe(self, topic_filter: str, qos: int = 1, also: Iterable[str] = ()) -> None:
        """Subscribe, now and after every reconnect; returns when the broker has granted it.

        What the broker's other machines retain has then been received too; `also` of devices that
        have no account there any more.
        """
        exact = retained.exact(self._settings, topic_filter, also)
        filters = dict.fromkeys([topic_filter, *exact], qos)

        def fetch(other: KitClient) -> None:
            for message in other.retained(topic_filter, self._timeout_s, also).items():
                self._messages.put(message)

        self._elsewhere(fetch)
        self._filters.update(filters)
        _, number = self._mqtt.subscribe(list(filters.items()))
        with self._subscribed:
            granted = self._subscribed.wait_for(
                lambda: number in self._granted, timeout=self._timeout_s
            )
            codes = self._granted.pop(number, [])
        if not granted or any(code.is_failure for code in codes):
            raise KitError(
                f"{_where(self._settings)} does not let the kit's account {self._account} "
                f"subscribe to {topic_filter}.",
                NO_BROKER,
            )

    def retained(
        self, topic_filter: str, timeout_s: float, also: Iterable[str] = ()
    ) -> dict[str, bytes]:
        """What the broker keeps on topics of this filter, topic to payload; subscribes to it.

        `also` as of `subscribe`. What has come by then when the broker does not deliver all
        within `timeout_s`.
        """
        marker = secrets.token_bytes(8)  # comes back behind what is kept
        found: dict[str, bytes] = {}
        self._elsewhere(lambda other: found.update(other.retained(topic_filter, timeout_s, also)))
        self.subscribe(topic_filter, also=also)
        self.subscribe(_MARKER)
        self.publish(_MARKER, marker)
        end = time.monotonic() + timeout_s

        def is_wanted(topic: str, payload: bytes) -> bool:
            return payload == marker or rules.matches(topic_filter, topic)

        while message := self.wait(is_wanted, end - time.monotonic()):
            if message[1] == marker:
                break
            found[message[0]] = message[1]
        return found

    def clear(self, device: str, timeout_s: float) -> None:
        """Have the broker keep nothing of a device."""
        below = f"limpet/{device}/#"
        for topic in self.retained(below, timeout_s, also=[device]):
            self.publish(topic, b"", retain=True)
        # Not some more of them for each device of a fleet.
        asked = [below, *retained.exact(self._settings, below, [device])]
        for topic in asked:
            del self._filters[topic]
        self._mqtt.unsubscribe(asked)

    def wait(
        self,
        predicate: Callable[[str, bytes], bool],
        timeout_s: float,
        unless: Callable[[], bool] | None = None,
    ) -> tuple[str, bytes] | None:
        """The oldest message not yet handed out for which `predicate(topic, payload)` holds.

        Waits for it up to `timeout_s`, and while `unless()` does not hold, then None. The others
        stay for later calls.
        """
        for index, message in enumerate(self._unclaimed):
            if predicate(*message):
                return self._unclaimed.pop(index)
        end = time.monotonic() + timeout_s
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                message = self._messages.get(timeout=min(left, LOOK_S) if unless else left)
            except queue.Empty:
                if unless is None or left <= LOOK_S or unless():
                    return None
                continue
            if predicate(*message):
                return message
            self._unclaimed.append(message)
            del self._unclaimed[:-KEPT]

    def _elsewhere(self, do: Callable[[KitClient], None]) -> None:
        """Do this in a session at each of the broker's other machines that can be reached."""
        settings = self._settings
        for node, host in enumerate(settings.hosts):
            if len(settings.hosts) == 1 or host in (self._addresses[0], *self._away):
                continue
            try:
                with KitClient(dataclasses.replace(settings, node=node).alone) as other:
                    do(other)
            except KitError:
                self._away.add(host)

    def _connect(self) -> None:
        """To the first of the broker's machines that answers."""
        *others, last = self._settings.kit_addresses
        for address in others:
            with contextlib.suppress(OSError):
                self._mqtt.connect(address, self._settings.kit_port, KEEPALIVE_S)
                return
            self._addresses.rotate(-1)
        self._mqtt.connect(last, self._settings.kit_port, KEEPALIVE_S)

    def _claim(self) -> str:
        """One of the kit's accounts that no other session uses."""
        for account in self._settings.kit_accounts:
            number = account.rpartition("-")[2]
            self._lock = try_lock(self._settings.folder / f".kit-{number}.lock")
            if self._lock is not None:
                return account
        raise KitError(
            f"{len(self._settings.kit_accounts)} sessions of the kit are open at "
            f"{self._settings.folder}; close one.",
            NO_BROKER,
        )

    def _leave(self) -> None:
        self._mqtt.disconnect()
        self._mqtt.loop_stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _on_connect(self, client: Any, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._refusal = str(code) if code.is_failure else None
        if not code.is_failure and self._filters:
            client.subscribe(list(self._filters.items()))
        if not code.is_failure:
            self._online.set()
        self._answered.set()

    def _on_disconnect(self, client: paho.Client, *_: Any) -> None:
        self._online.clear()
        if len(self._addresses) > 1:  # the next try goes to the next machine
            self._addresses.rotate(-1)
            client.connect_async(self._addresses[0], self._settings.kit_port, KEEPALIVE_S)

    def _on_message(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        if self._messages.full():
            self._messages.get_nowait()
        self._messages.put((message.topic, bytes(message.payload)))

    def _on_subscribe(
        self, client: Any, data: Any, number: int, codes: list[Any], properties: Any
    ) -> None:
        with self._subscribed:
            self._granted[number] = codes
            self._subscribed.notify_all()


def _where(settings: Settings) -> str:
    return f"The broker at {settings.kit_address} port {settings.kit_port}"


def _remedy(settings: Settings) -> str:
    if settings.given:
        return "Correct the first line of the accounts file: limpet broker use"
    return "Was it started from this folder?"


def _unreachable(settings: Settings, error: OSError) -> KitError:
    if isinstance(error, ssl.SSLCertVerificationError) and settings.given:
        words = f"does not prove itself by this CA: {error.verify_message}"
    elif isinstance(error, ssl.SSLCertVerificationError):
        words = f"is not the one of {settings.folder}: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        words = "fails in the TLS handshake; is it another program?"
    elif isinstance(error, ConnectionRefusedError) and settings.given:
        words = "is not there: the connection is refused"
    elif isinstance(error, ConnectionRefusedError):
        words = f"does not run. Start it with: limpet broker run {settings.folder}"
    elif isinstance(error, TimeoutError):
        words = "does not answer in time"
    else:
        words = f"cannot be reached: {error.strerror or error}"
    return KitError(f"{_where(settings)} {words}".rstrip(".") + ".", NO_BROKER)
