"""What a running broker says of itself, and what its log says of refused logins."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from ..errors import KitError
from . import rabbitmq, rabbitmq_api
from .client import KitClient
from .mosquitto import LOG
from .settings import Settings

SESSIONS, VERSION = "$SYS/broker/clients/connected", "$SYS/broker/version"
HOURS = 24
_ANSWER_S = 2.0
_LARGEST = 64 << 20  # bytes of the log, from its end: it may hold a line for every packet
_LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d):\d\d:\d\d(?:/64)?: (.*)\Z", re.DOTALL)  # hour, words
_JSON = re.compile(
    rb'\{"time":"([^"]+)","level":"[a-z]+","msg":"(.*)","domain":"rabbitmq\.connection",'
)
# How Mosquitto (old and new words), the embedded broker and RabbitMQ (for WebSockets in other
# words) say it.
_REFUSED = re.compile(
    rb"(?:disconnected[,:] not authorised\.|refused: wrong account or password|"
    rb"\AMQTT connection \S+ -> \S+ is closing due to an authentication failure|"
    rb'\AMQTT protocol error unauthenticated for connection \\"\S+ -> \S+\\")\Z'
)
# A handshake that failed. Mosquitto names an address where it failed at once; otherwise the line
# before tells OpenSSL's reason, which alone may also be of a session that broke off.
_FAILED = re.compile(rb"Client (?:<unknown> |connection from \S+ failed: )")
_REASON = b"OpenSSL Error"


def told(settings: Settings) -> tuple[str | None, int | None]:
    """The broker's version and how many sessions it has; None for what it does not tell.

    RabbitMQ's nodes are asked over their API, and count themselves together. Mosquitto counts anew
    every few seconds and tells the first count after as many. The embedded broker tells neither.
    """
    if settings.hosts:
        try:
            with rabbitmq_api.Api(settings) as api:
                about = api.get("overview")
            return str(about["rabbitmq_version"]), int(about["object_totals"]["connections"])
        except (KitError, KeyError, TypeError, ValueError):
            return None, None
    if settings.kind != "mosquitto":
        return None, None
    found: dict[str, bytes] = {}

    def collect(topic: str, payload: bytes) -> bool:
        found[topic] = payload
        return {SESSIONS, VERSION} <= set(found)

    try:
        with KitClient(settings) as kit:
            for topic in (SESSIONS, VERSION):
                kit.subscribe(topic)
            kit.wait(collect, _ANSWER_S)
    except KitError:
        return None, None
    version, sessions = found.get(VERSION, b""), found.get(SESSIONS, b"")
    words = version.decode("ascii", "replace").removeprefix("mosquitto version ")
    return words or None, int(sessions) if sessions.isdigit() else None


def connected(settings: Settings) -> set[str]:
    """Accounts that are logged in at any of RabbitMQ's nodes; `KitError` when none answers."""
    with rabbitmq_api.Api(settings) as api:
        return {str(one.get("user")) for one in api.get("connections?columns=user")}


RUNNING, AWAY, APART = "running", "away", "apart"


def nodes(settings: Settings) -> dict[str, str]:
    """How each of RabbitMQ's machines is: RUNNING, AWAY (it does not answer), or APART: its node
    found no other one at its first start, and is a broker of its own that knows no device."""
    found: dict[str, str] = {}
    together: set[str] = set()  # nodes that the first which answers runs with
    for number, host in enumerate(settings.hosts):
        try:
            with rabbitmq_api.Api(dataclasses.replace(settings, node=number).alone) as api:
                seen = {one["name"] for one in api.get("nodes") if one["running"]}
        except KitError:
            found[host] = AWAY
            continue
        together = together or seen
        found[host] = RUNNING if rabbitmq.name(settings, number) in together else APART
    return found


class Failures(NamedTuple):
    """What failed in each of the last 24 hours in which it did; the hour as `2026-01-02T15`, in
    this machine's time.

    `refused` logins: the kit's own trial of an export may count one or two. `handshakes` of TLS:
    scanners, and whoever does not trust the broker's certificate; None where the broker does not
    tell.
    """

    refused: dict[str, int]
    handshakes: dict[str, int] | None


def log_of(settings: Settings) -> Path:
    """The log in which a broker tells of logins; of RabbitMQ's nodes it is this one's."""
    return rabbitmq.data_of(settings) / rabbitmq.LOG if settings.hosts else settings.folder / LOG


def failures(settings: Settings, now: float | None = None) -> Failures | None:
    """What the broker's log says of those who did not get in; None when no log is kept here."""
    try:
        log = log_of(settings).open("rb")
    except FileNotFoundError:
        return None
    since = datetime.fromtimestamp(time.time() if now is None else now) - timedelta(hours=HOURS)
    first = since.strftime("%Y-%m-%dT%H")
    refused: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    before = b""
    with log:
        log.seek(max(0, log.seek(0, 2) - _LARGEST))
        for line in log:
            hour, words = _read(line.rstrip())
            if hour > first and _REFUSED.search(words):
                refused[hour] += 1
            elif hour > first and _FAILED.match(words):
                failed[hour] += b" failed: " in words or before.startswith(_REASON)
            before = words
    tells = settings.kind == "mosquitto"
    return Failures(
        dict(sorted(refused.items())), dict(sorted((+failed).items())) if tells else None
    )


def _read(line: bytes) -> tuple[str, bytes]:
    """The hour of a line, in this machine's time, and its words; both empty for other lines."""
    if match := _LINE.match(line):
        return match[1].decode(), match[2]
    if match := _JSON.match(line):
        at = datetime.fromisoformat(match[1].decode()).astimezone()
        return at.strftime("%Y-%m-%dT%H"), match[2]
    return "", b""
