"""Accounts of a broker and the two files in which Mosquitto and the embedded broker read them.

`passwords` holds `NAME:$7$ROUNDS$SALT$HASH` lines (mosquitto_passwd's format: PBKDF2-HMAC-SHA512,
12 bytes of salt, 64 bytes of hash, base64); `acl` holds `user NAME` and `topic ACCESS FILTER`
lines, ACCESS being read, write or readwrite (mosquitto.conf(5), acl_file). Mosquitto quits on a
file it does not understand, so everything is checked before a byte is written. What belongs on
the wire: lib/limpet/PROTOCOLS.md 1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import FAILED, REFUSED, KitError
from ..secret import Secret
from . import keyed
from .files import write_private

PASSWORDS = "passwords"
ACL = "acl"
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
_STATE = re.compile(r"write limpet/([^/+#]+)/state\Z")
_RULED = re.compile(r"^user (\S+)\ntopic ", re.MULTILINE)  # in the file of rules
_ACCESS = ("read", "write", "readwrite")


class Account(NamedTuple):
    """One login: its name, what its password is checked against, its `access filter` lines."""

    name: str
    verifier: str
    acl: tuple[str, ...]


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


def device_acl(device: str, homeassistant: bool = False) -> tuple[str, ...]:
    """What a device may do: its own branch only, each sub-branch by name.

    With `homeassistant` it may announce entities there, under a node with its own name. What it
    announces is its own word: topics of others, and templates that Home Assistant renders.
    """
    check_name(device)
    announce = (f"write homeassistant/+/{device}/+/config",) if homeassistant else ()
    return (
        *announce,
        f"write limpet/{device}/state",
        f"write limpet/{device}/up/+",
        f"write limpet/+/from/{device}/+",
        f"write limpet/{device}/kit/ack",
        f"read limpet/{device}/cmd/+",
        f"read limpet/{device}/from/+/+",
        f"read limpet/{device}/kit/set",
        "read limpet/time",
    )


def device_of(acl: Iterable[str]) -> str:
    """The device whose account may do this; empty for somebody else's."""
    return next((match[1] for line in acl if (match := _STATE.match(line))), "")


def person_acl(person: str, devices: Iterable[str] | None) -> tuple[str, ...]:
    """What a person's page may do: watch and command these devices (None for all), one-to-one
    with the person as the sender, and read what they send to the person."""
    named = ["+"] if devices is None else list(devices)
    return tuple(
        line
        for device in named
        for line in (
            f"read limpet/{device}/state",
            f"read limpet/{device}/up/+",
            f"write limpet/{device}/cmd/+",
            f"write limpet/{device}/from/{person}/+",
            f"read limpet/{person}/from/{device}/+",
        )
    )


def home_acl() -> tuple[str, ...]:
    """What Home Assistant may do: find the boards, watch and command all of them."""
    return (
        "read homeassistant/#",
        "write homeassistant/status",
        "read limpet/+/state",
        "read limpet/+/up/+",
        "write limpet/+/cmd/+",
    )


def kit_acl() -> tuple[str, ...]:
    """What the kit may do: all below `limpet/`, and hear what the broker tells of itself."""
    return ("readwrite limpet/#", "read $SYS/#")


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
    return Account(name, verifier(password, form), ()), password


def write(
    folder: Path,
    accounts: Iterable[Account],
    force: bool = False,
    gone: Iterable[str] = (),
    fresh: Iterable[Secret] = (),
    closing: Iterable[Account] = (),
    before: Mapping[str, Account] | None = None,
) -> None:
    """Replace the files of `folder` by these accounts.

    Raises `KitError` and changes nothing when an account is not well-formed or occurs twice, or
    (without `force`) when too many accounts would vanish at once: an empty or stale ledger must
    not lock a fleet out. Two may always go, and beyond that 10 % of those that are in the file;
    those of the kit, of probes and of web pages do not count, nor those whose names are in `gone`.
    `fresh` are shared keys that no file holds yet; `closing` are accounts that are written too,
    and count as gone; `before` is what `read` says of the folder, for who has asked already.
    """
    staying = list(accounts)
    listed = [*staying, *closing]
    known = read(folder) if before is None else before
    for account in listed:
        if known.get(account.name) != account:  # otherwise it was checked when it was written
            check(account)
    names = {account.name for account in listed}
    if len(names) != len(listed):
        raise KitError("An account occurs twice in the export; nothing was written.", FAILED)
    ruled = _RULED.findall(_text(folder / ACL))
    there = {name for name in {*known, *ruled} if is_devices(name)} - set(gone)
    lost = len(there - {account.name for account in staying})
    allowed = max(2, len(there) // 10)
    if lost > allowed and not force:
        raise KitError(
            f"This export would drop {lost} of {len(there)} accounts from {folder}, more than "
            f"the {allowed} that may go at once. Is it the right ledger? Nothing was written. "
            "If it is right: limpet broker sync --force",
            REFUSED,
        )
    acl = "".join(
        "\ntopic ".join((f"user {account.name}", *account.acl)) + "\n\n" for account in listed
    )
    by_name = {account.name: account.verifier for account in listed}
    proved = {name: text for name, text in by_name.items() if keyed.is_keyed(text)}
    passwords = "".join(f"{n}:{text}\n" for n, text in by_name.items() if n not in proved)
    # Passwords first: whoever is cut off here leaves new accounts without rights, never the
    # other way round, and the next export completes it.
    keyed.write(folder, proved, fresh)
    write_private(folder / PASSWORDS, passwords.encode("ascii"))
    write_private(folder / ACL, acl.encode("ascii"))


def check(account: Account) -> None:
    """Raise `KitError` unless this account can be written without breaking the files."""
    if not _NAME.match(account.name):
        raise KitError("An account name must be printable ASCII without spaces and ':'.", FAILED)
    if not keyed.is_keyed(account.verifier):
        _check_verifier(account.verifier)
    for line in account.acl:
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


def read_passwords(folder: Path, only: Container[str] | None = None) -> dict[str, str]:
    """Account name to verifier, as the file says; empty when there is no file.

    Raises `KitError` on a line that is not ours. `only` of these names.
    """
    found = {}
    for line in _lines(folder):
        name, _, kept = line.partition(":")
        if only is None or name in only:
            _check_verifier(kept)
            found[name] = kept
    return found


def read_acl(folder: Path, only: Container[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Account name to its `access filter` lines, as the file says. `only` of these names."""
    found: dict[str, tuple[str, ...]] = {}
    for block in _blocks(folder):
        if only is not None and _ruled(block) not in only:
            continue
        user, *lines = block.split("\ntopic ")
        if user.startswith("user ") and block.count("\n") == len(lines):
            found[user[5:]] = tuple(lines)
        elif block:
            raise KitError(f"{folder / ACL} holds a line that the kit did not write.", FAILED)
    return found


def read(folder: Path, only: Container[str] | None = None) -> dict[str, Account]:
    """All accounts of the files by name, or `only` some; who has no ACL may do nothing."""
    acl: Mapping[str, tuple[str, ...]] = read_acl(folder, only)
    proved = {n: text for n, text in keyed.read(folder).items() if only is None or n in only}
    kept = {**read_passwords(folder, only), **proved}
    return {name: Account(name, kept[name], acl.get(name, ())) for name in kept}


def differing(one: Path, other: Path) -> set[str]:
    """Names of the accounts with a password that two folders do not have alike; of 100,000, the
    few that changed are found in a fifth of the time that it takes to read all."""
    lines = set(_lines(one)) ^ set(_lines(other))
    blocks = set(_blocks(one)) ^ set(_blocks(other))
    return {line.partition(":")[0] for line in lines} | {_ruled(block) for block in blocks}


def is_devices(name: str) -> bool:
    """Whether this is the account of a device, and not the kit's own, a probe or a page."""
    return not name.startswith((KIT_PREFIX, PROBE_PREFIX, WEB_PREFIX))


def _lines(folder: Path) -> list[str]:
    """Of the passwords: one an account."""
    return [line for line in _text(folder / PASSWORDS).split("\n") if line]


def _blocks(folder: Path) -> list[str]:
    """Of the rules: one an account."""
    return [block for block in _text(folder / ACL).strip("\n").split("\n\n") if block]


def _ruled(block: str) -> str:
    """Whose rules these are."""
    return block.partition("\n")[0][5:]


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise KitError(f"{path} was not written by the kit: it is not ASCII.", FAILED) from None


def _check_verifier(text: str) -> None:
    if not _SHA256.match(text):
        _verifier_parts(text)


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
