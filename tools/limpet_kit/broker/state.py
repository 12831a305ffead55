"""What a running broker says of itself, and what its log says of refused logins."""

from __future__ import annotations

import re
import time
from collections import Counter
from datetime import datetime, timedelta

from ..errors import KitError
from .client import KitClient
from .mosquitto import LOG
from .settings import Settings

SESSIONS, VERSION = "$SYS/broker/clients/connected", "$SYS/broker/version"
HOURS = 24
_ANSWER_S = 2.0
_LARGEST = 64 << 20  # bytes of the log, from its end: it may hold a line for every packet
# How Mosquitto (old and new words) and the embedded broker end such a line.
_REFUSED = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d):\d\d:\d\d: .*"
    rb"(?:disconnected[,:] not authorised\.|refused: wrong account or password)\Z"
)


def told(settings: Settings) -> tuple[str | None, int | None]:
    """The broker's version and how many sessions it has; None for what it does not tell.

    Mosquitto counts anew every few seconds and tells the first count after as many. The embedded
    broker tells neither.
    """
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


def refused(settings: Settings, now: float | None = None) -> dict[str, int] | None:
    """Refused logins in each of the last 24 hours that had any; None when no log is kept.

    The hour as `2026-01-02T15`, in this machine's time. The kit's own trial of an export may
    count one or two.
    """
    try:
        log = (settings.folder / LOG).open("rb")
    except FileNotFoundError:
        return None
    since = datetime.fromtimestamp(time.time() if now is None else now) - timedelta(hours=HOURS)
    first = since.strftime("%Y-%m-%dT%H")
    counted: Counter[str] = Counter()
    with log:
        log.seek(max(0, log.seek(0, 2) - _LARGEST))
        for line in log:
            match = _REFUSED.match(line.rstrip())
            if match and (hour := match[1].decode()) > first:
                counted[hour] += 1
    return dict(sorted(counted.items()))
