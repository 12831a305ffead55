"""The log lines that count, by version of Mosquitto.

Each is anchored at both ends and takes the address from where the broker itself puts it. A line
that holds nothing but text of the client's choice in that place must not be used: 2.0.12 to 2.1.0
name the client id of a refused login and no address, so a stranger could have anybody banned.
"""

from __future__ import annotations

from ..errors import REFUSED, KitError

DATE = "{^LN-BEG}%%Y-%%m-%%dT%%H:%%M:%%S"  # mosquitto.py's log_timestamp_format
# A good login; `as` is followed by an account that was checked.
GOOD = r"^: New client connected from <ADDR>:\d+ as [^\n]+$"

_BY_DEBUG = r"^: Sending CONNACK to <ADDR> \(0, (?:4|5|134|135)\)$"
_BY_NOTICE = r"^: Client [^\n]* \[<ADDR>:\d+\] disconnected: not authorised\.$"
_DEBUG_ONLY = (2, 0, 11)
_NAMED_FROM = (2, 1, 1)


def refused(version: tuple[int, ...]) -> str:
    """The pattern of a refused login of this Mosquitto; `KitError` where none can be trusted."""
    if version == _DEBUG_ONLY:
        return _BY_DEBUG
    if version >= _NAMED_FROM:
        return _BY_NOTICE
    raise KitError(
        f"Mosquitto {'.'.join(map(str, version))} does not log the address of a refused login, "
        "or was not tried; a guard would ban nobody, or whom an attacker names. Use 2.0.11 "
        "(Debian 12), or 2.1.1 or later.",
        REFUSED,
    )


def samples(version: tuple[int, ...]) -> list[tuple[str, str | None]]:
    """Lines of this version's log, and the address that each must count for (None: nobody's)."""
    at = "2026-01-02T03:04:05: "
    if refused(version) == _BY_DEBUG:
        return [
            (at + "Sending CONNACK to 192.0.2.7 (0, 5)", "192.0.2.7"),
            (at + "Sending CONNACK to 2001:db8::7 (0, 135)", "2001:db8::7"),
            (at + "Sending CONNACK to 192.0.2.7 (0, 0)", None),
            (at + "Sending CONNACK to 192.0.2.9 (0, 5) (0, 0)", None),
            (at + "Client Sending CONNACK to 192.0.2.9 (0, 5) disconnected.", None),
            ("Sending CONNACK to 192.0.2.9 (0, 5)", None),
        ]
    return [
        (at + "Client x [192.0.2.7:4711] disconnected: not authorised.", "192.0.2.7"),
        (at + "Client x [2001:db8::7:4711] disconnected: not authorised.", "2001:db8::7"),
        (
            at + "Client a [192.0.2.9:1] disconnected: not authorised. [192.0.2.7:4711] "
            "disconnected: not authorised.",
            "192.0.2.7",
        ),
        (at + "Client a [192.0.2.9:1] disconnected: not authorised. closed.", None),
    ]
