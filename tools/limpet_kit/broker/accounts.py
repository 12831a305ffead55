"""Accounts of a broker: their names, what a password is checked against, what each may do.

How they come into the broker's files: export.py. What belongs on the wire:
lib/limpet/PROTOCOLS.md 1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import FAILED, REFUSED, KitError
from ..secret import Secret
from . import keyed

# Forms of a verifier: Mosquitto's and the embedded broker's, and RabbitMQ's, base64 of 4 bytes of
# salt and SHA-256 over salt and password. The secrets are random, so neither has to be slow.
PBKDF2, SHA256 = "7", "sha256"
ROUNDS = 101  # for random secrets; more rounds only help whoever wants to exhaust the broker
KIT_PREFIX = "kit-"  # the kit's own accounts; a drawn account has no '-'
PROBE_PREFIX = "probe-"
WEB_PREFIX = "web-"  # a person's, for as long as the person is logged in at the web page

_ALPHANUMERIC = string.digits + string.ascii_letters
_NAME = re.compile(r"[!-9;-~]{1,64}\Z")  # printable ASCII without space and ':'
_DEVICE = re.compile(r"[a-z0-9][a-z0-9-]{2,31}\Z")
_RESERVED = ("time", "fleet", "kit")
# Rounds, salt, and 64 bytes of hash. Whole groups of base64, so that nothing is left to decode.
_VERIFIER = re.compile(
    r"\$7\$(\d{1,7})"
    r"\$((?=[^$])(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==|[A-Za-z0-9+/]=))?)"
    r"\$([A-Za-z0-9+/]{86}==)\Z"
)
_SHA256 = re.compile(r"\$sha256\$([A-Za-z0-9+/]{48})\Z")
_STATE = re.compile(r"^write limpet/([^/+#]+)/state$", re.MULTILINE)
_ACCESS = ("read", "write", "readwrite")


class Account(NamedTuple):
    """One login: its name, what its password is checked against, its `access filter` lines."""

    name: str
    verifier: str
    acl: str


def draw_account() -> str:
    """A fresh account name: 23 characters of 0-9A-Za-z, the first a letter (protocols.md 1)."""
    return secrets.choice(string.ascii_letters) + _random(22)


def draw_password(profile: str) -> Secret:
    """A fresh password: `binary` 32 bytes of 1..255, `text` 32 random bytes in base64url.

    For `psk` it is a key of 32 random bytes.

    A NUL never occurs: Mosquitto compares only what comes before it.
    """
    if profile == "psk":
        return Secret(secrets.token_bytes(32))
    if profile == "binary":
        return Secret(bytes(1 + secrets.randbelow(255) for _ in range(32)))
    if profile == "text":
        return Secret(base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"="))
    raise KitError(f"There is no credential profile {profile!r}; no password is drawn for it.")


def verifier(password: Secret, form: str = PBKDF2) -> str:
    """What the broker keeps instead of `password`, freshly salted."""
    if not password.reveal() or 0 in password.reveal():
        raise KitError("A password must not be empty and must not contain a zero byte.", REFUSED)
    return verifier_of(password.reveal(), form)


def verifier_of(password: bytes, form: str = PBKDF2) -> str:
    """The verifier of any bytes, also of those that no device may have; salted."""
    if form == SHA256:
        salt = secrets.token_bytes(4)
        return f"${SHA256}${_base64(salt + hashlib.sha256(salt + password).digest())}"
    salt = secrets.token_bytes(12)
    parts = (_base64(salt), _base64(_hash(password, salt, ROUNDS)))
    return f"$7${ROUNDS}${parts[0]}${parts[1]}"


def fits(password: bytes, against: str) -> bool:
    """Whether `password` is the one that the verifier `against` was made from."""
    if kept := _SHA256.match(against):
        whole = base64.b64decode(kept[1])
        return hmac.compare_digest(hashlib.sha256(whole[:4] + password).digest(), whole[4:])
    rounds, salt, expected = _verifier_parts(against).groups()
    found = _hash(password, base64.b64decode(salt), int(rounds))
    return hmac.compare_digest(found, base64.b64decode(expected))


def sha256_hash(verifier: str) -> str:
    """What RabbitMQ calls `password_hash`; `KitError` when this verifier is none of its."""
    if match := _SHA256.match(verifier):
        return match[1]
    raise KitError("This account was made for another kind of broker than RabbitMQ.", FAILED)


def device_acl(device: str, homeassistant: bool = False) -> str:
    """What a device may do: its own branch only, each sub-branch by name.

    With `homeassistant` it may announce entities there, under a node with its own name. What it
    announces is its own word: topics of others, and templates that Home Assistant renders.
    """
    check_name(device)
    announce = f"write homeassistant/+/{device}/+/config\n" if homeassistant else ""
    return (
        f"{announce}write limpet/{device}/state\n"
        f"write limpet/{device}/up/+\n"
        f"write limpet/+/from/{device}/+\n"
        f"write limpet/{device}/kit/ack\n"
        f"read limpet/{device}/cmd/+\n"
        f"read limpet/{device}/from/+/+\n"
        f"read limpet/{device}/kit/set\n"
        "read limpet/time"
    )


def device_of(acl: str) -> str:
    """The device whose account may do this; empty for somebody else's."""
    match = _STATE.search(acl)
    return match[1] if match else ""


def person_acl(person: str, devices: Iterable[str] | None) -> str:
    """What a person's page may do: watch and command these devices (None for all), one-to-one
    with the person as the sender, and read what they send to the person."""
    named = ["+"] if devices is None else devices
    return "\n".join(
        f"read limpet/{device}/state\n"
        f"read limpet/{device}/up/+\n"
        f"write limpet/{device}/cmd/+\n"
        f"write limpet/{device}/from/{person}/+\n"
        f"read limpet/{person}/from/{device}/+"
        for device in named
    )


def home_acl() -> str:
    """What Home Assistant may do: find the boards, watch and command all of them."""
    return (
        "read homeassistant/#\n"
        "write homeassistant/status\n"
        "read limpet/+/state\n"
        "read limpet/+/up/+\n"
        "write limpet/+/cmd/+"
    )


def kit_acl() -> str:
    """What the kit may do: all below `limpet/`, and hear what the broker tells of itself."""
    return "readwrite limpet/#\nread $SYS/#"


def draw_web() -> str:
    """A fresh account name for a person's page: 113 bits behind its prefix."""
    return WEB_PREFIX + _random(19)


def check_name(name: str) -> None:
    """Raise `KitError` unless this can name a device or a person."""
    if not _DEVICE.match(name) or name in _RESERVED:
        raise KitError(
            f"{name!r} cannot be a name: 3 to 32 characters of a-z, 0-9 and '-', not "
            f"beginning with '-', and none of {', '.join(_RESERVED)}."
        )


def draw_probe(form: str = PBKDF2) -> tuple[Account, Secret]:
    """An account that may do nothing but log in, to ask a broker whether it took an export."""
    password = draw_password("text")
    name = PROBE_PREFIX + _random(23 - len(PROBE_PREFIX))
    return Account(name, verifier(password, form), ""), password


def check(account: Account) -> None:
    """Raise `KitError` unless this account can be written without breaking the files."""
    if not _NAME.match(account.name):
        raise KitError("An account name must be printable ASCII without spaces and ':'.", FAILED)
    if not keyed.is_keyed(account.verifier):
        check_verifier(account.verifier)
    for line in account.acl.split("\n") if account.acl else ():
        access, _, topic_filter = line.partition(" ")
        levels = topic_filter.split("/")
        well_formed = (
            access in _ACCESS
            and topic_filter.isascii()
            and topic_filter.isprintable()
            and " " not in topic_filter
            and all(levels)
            and "#" not in levels[:-1]
            and all(level in "+#" or not set(level) & set("+#") for level in levels)
        )
        if not well_formed:
            raise KitError(f"The ACL line {line!r} of an account is not well-formed.", FAILED)


def check_verifier(text: str) -> None:
    """Raise `KitError` unless this is the verifier of a password."""
    if not _SHA256.match(text):
        _verifier_parts(text)


def is_devices(name: str) -> bool:
    """Whether this is the account of a device, and not the kit's own, a probe or a page."""
    return not name.startswith((KIT_PREFIX, PROBE_PREFIX, WEB_PREFIX))


def _verifier_parts(text: str) -> re.Match[str]:
    match = _VERIFIER.match(text)
    if match and int(match[1]):
        return match
    raise KitError("A password verifier is not in Mosquitto's $7$ format.", FAILED)


def _hash(password: bytes, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password, salt, rounds)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))
