"""The log lines that count, of RabbitMQ and by version of Mosquitto.

Each is anchored at both ends and takes the address from where the broker itself puts it. A line
that holds nothing but text of the client's choice in that place must not be used: 2.0.12 to 2.1.0
name the client id of a refused login and no address, so a stranger could have anybody banned.

fail2ban counts and bans a network instead of an address where a group `cidr` of the pattern takes
the length of its prefix from the line. A guarded broker writes `/64` behind each time, for that
alone, and the patterns take it for IPv6 only.
"""

from __future__ import annotations

from ..errors import REFUSED, KitError

DATE = "{^LN-BEG}%%Y-%%m-%%dT%%H:%%M:%%S"  # mosquitto.py's log_timestamp_format up to its /64
# A good login; `as` is followed by an account that was checked.
_GOOD = r"New client connected from {}:\d+ as [^\n]+"
# A connection, whatever comes of it; the second line is of one that failed as it was accepted.
_CONNECTED = (
    r"New connection from {}:\d+ on port \d+\.",
    r"Client connection from {} failed: [^\n]+",
)
# The account of a device, which is its client id too, logged in while it was logged in.
TAKEN_OVER = r"^/64: Client <F-ID>[0-9A-Za-z]+</F-ID> already connected, closing old connection\.$"

_NEXT = "\n            "  # between the patterns of one filter

# RabbitMQ's, in JSON, which escapes what a client says. Its nodes listen on IPv4 alone.
RABBITMQ_DATE = r'{^LN-BEG}\{"time":"%%Y-%%m-%%d %%H:%%M:%%S\.%%f%%z'
_JSON = r'^","level":"%s","msg":"%s","domain":"rabbitmq\.connection","pid":"[^"]*"\}$'
_WAY = r"<IP4>:\d+ -> [0-9.]+:\d+"
# The second one is of a login over WebSockets.
RABBITMQ_REFUSED = _NEXT.join(
    (
        _JSON % ("error", f"MQTT connection {_WAY} is closing due to an authentication failure"),
        _JSON % ("info", rf'MQTT protocol error unauthenticated for connection \\"{_WAY}\\"'),
    )
)
RABBITMQ_GOOD = _JSON % (
    "info",
    rf'accepting MQTT connection <[0-9.]+> \({_WAY}, client id: (?:[^"\\]|\\.)*\)',
)
RABBITMQ_TAKEN_OVER = _JSON % (
    "warning",
    r"MQTT disconnecting client \\\"[0-9.]+:\d+ -> [0-9.]+:\d+\\\" with duplicate id "
    "'<F-ID>[0-9A-Za-z]+</F-ID>'",
)

_BY_DEBUG = r"Sending CONNACK to {} \(0, (?:4|5|134|135)\)"
_BY_NOTICE = r"Client [^\n]* \[{}:\d+\] disconnected: not authorised\."
_DEBUG_ONLY = (2, 0, 11)
_NAMED_FROM = (2, 1, 1)


def refused(version: tuple[int, ...]) -> str:
    """The patterns of a refused login of this Mosquitto; `KitError` where none can be trusted."""
    return _patterns(_refused(version))


def good() -> str:
    """The patterns of a good login."""
    return _patterns(_GOOD)


def connected() -> str:
    """The patterns of a connection."""
    return _patterns(*_CONNECTED)


def _patterns(*lines: str) -> str:
    """One a line, for an IPv4 address and for the /64 of an IPv6 address."""
    forms = ("^/64: ", "<IP4>"), ("^/(?P<cidr>64): ", "<IP6>")
    found = [head + line.format(address) + "$" for line in lines for head, address in forms]
    return _NEXT.join(found)


def _refused(version: tuple[int, ...]) -> str:
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


def samples(version: tuple[int, ...] | None) -> list[tuple[str, str | None]]:
    """Lines of the log of this version of Mosquitto, or of RabbitMQ, and what each must count for
    (None: nobody)."""
    if version is None:
        return _RABBITMQ_SAMPLES
    at = "2026-01-02T03:04:05/64: "
    if _refused(version) == _BY_DEBUG:
        return [
            (at + "Sending CONNACK to 192.0.2.7 (0, 5)", "192.0.2.7"),
            (at + "Sending CONNACK to 2001:db8::7 (0, 135)", "2001:db8::/64"),
            (at + "Sending CONNACK to 192.0.2.7 (0, 0)", None),
            (at + "Sending CONNACK to 192.0.2.9 (0, 5) (0, 0)", None),
            (at + "Client Sending CONNACK to 192.0.2.9 (0, 5) disconnected.", None),
            ("Sending CONNACK to 192.0.2.9 (0, 5)", None),
        ]
    return [
        (at + "Client x [192.0.2.7:4711] disconnected: not authorised.", "192.0.2.7"),
        (at + "Client x [2001:db8::7:4711] disconnected: not authorised.", "2001:db8::/64"),
        (
            at + "Client a [192.0.2.9:1] disconnected: not authorised. [192.0.2.7:4711] "
            "disconnected: not authorised.",
            "192.0.2.7",
        ),
        (at + "Client a [192.0.2.9:1] disconnected: not authorised. closed.", None),
    ]


_RABBITMQ_SAMPLES: list[tuple[str, str | None]] = [
    (
        '{"time":"2026-01-02 03:04:05.006007+00:00","level":"error","msg":"MQTT connection '
        '192.0.2.7:4711 -> 192.0.2.1:8883 is closing due to an authentication failure",'
        '"domain":"rabbitmq.connection","pid":"<0.1.0>"}',
        "192.0.2.7",
    ),
    (
        '{"time":"2026-01-02 03:04:05.006007+00:00","level":"info","msg":"MQTT protocol error '
        'unauthenticated for connection \\"192.0.2.7:4711 -> 192.0.2.1:8885\\"",'
        '"domain":"rabbitmq.connection","pid":"<0.1.0>"}',
        "192.0.2.7",
    ),
    (
        '{"time":"2026-01-02 03:04:05.006007+00:00","level":"error","msg":"MQTT login failed for '
        "user 'x\\nMQTT connection 192.0.2.9:1 -> 192.0.2.1:8883 is closing due to an "
        'authentication failure\',","domain":"rabbitmq.connection","pid":"<0.1.0>"}',
        None,
    ),
]
