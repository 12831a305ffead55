"""A broker that the user has: the kit runs and administers nothing there.

given.accounts  the user's accounts that no device has yet, `name:password` lines
given.used      names of those that were handed out, which are never handed out again

The password of an account that was handed out is in its device alone.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from .. import ca
from ..errors import ENROLLED, NO_BROKER, USAGE, KitError
from ..secret import Secret
from . import accounts, client, connect, settings
from .files import beside, locked, refuse_readable, sync_folder, write_private
from .settings import Settings

ACCOUNTS, USED = "given.accounts", "given.used"
_LOCK = ".given.lock"
# Bytes of a device's password, and how many of them differ at least. The ledger keeps a digest of
# it for the audit: a copy of the ledger lets nobody log in only where no password can be guessed.
_PASSWORD_MIN, _PASSWORD_MAX, _VARIED = 20, 256, 10
_NAME = re.compile(rb"[!-9;-~]{1,64}")  # what a device takes as its account
_ASK_S = 5.0
Login = tuple[str, Secret]


def use(folder: Path, host: str, port: int, anchor: Path, logins: list[Login]) -> Settings:
    """Make the folder of a broker that is there, once the kit has logged in and heard itself.

    The first of `logins` is the kit's own, the others are for devices. A folder of the same server
    gets CA and kit's account anew, and the devices' accounts besides those that it has; its units
    stay, and what was handed out stays so.
    Raises `KitError`: NO_BROKER when the broker or the kit's account cannot be used, ENROLLED
    when the folder is something else's. Nothing is changed then.
    """
    folder = Path(folder).expanduser().absolute()
    before = _before(folder, host, port)
    ca.general_name(host)
    (kit, password), devices = logins[0], logins[1:]
    is_text = all(_is_text(secret) for _, secret in logins)
    if before and kit in _used(folder):
        raise KitError(f"The account {kit} is a device's already; the kit needs another.", USAGE)
    values = {
        "format": 1,
        "kind": settings.GIVEN,
        "profile": "text" if is_text and (not before or before.profile == "text") else "binary",
        "names": [host],
        "port": port,
        "kit": before.kit if before else accounts.KIT_PREFIX + accounts.draw_account()[:16],
        "account": kit,
    }
    with beside(folder) as building:
        write_private(building / "ca.crt", ca.read_anchor(anchor))
        write_private(building / "kit.password", password.reveal() + b"\n")
        settings.write(building, values, "limpet broker use")
        hear(settings.load(building))
        if before is None:
            _store(building, devices)
            if folder.exists():
                folder.rmdir()  # empty, as `_before` saw
            os.replace(building, folder)
        else:
            with locked(folder / _LOCK):
                free = {**dict(_stored(folder)), **dict(devices)}
                taken = {kit, *_used(folder)}
                _store(folder, [login for login in free.items() if login[0] not in taken])
            for name in ("ca.crt", "kit.password", "broker.toml"):
                write_private(folder / name, (building / name).read_bytes())
    sync_folder(folder.parent)
    return settings.load(folder)


def hear(chosen: Settings) -> None:
    """See that the kit's account logs in, and hears what it says below `limpet/`.

    A broker may grant a subscription and still deliver nothing. Raises `KitError` (NO_BROKER).
    """
    marker = secrets.token_bytes(8)
    with client.KitClient(chosen, _ASK_S) as kit:
        kit.subscribe("limpet/+/state")
        kit.publish("limpet/kit/state", marker)
        if kit.wait(lambda topic, payload: payload == marker, _ASK_S) is None:
            raise KitError(
                f"The kit's account {chosen.account} does not hear itself at {chosen.server}. "
                "Let it read and write limpet/# there.",
                NO_BROKER,
            )


def take(chosen: Settings) -> Login:
    """The next account for a device, once the broker has let it in; it is used up from now on.

    Raises `KitError` (NO_BROKER) when none is left, or the broker refuses this one.
    """
    with locked(chosen.folder / _LOCK):
        used = _used(chosen.folder)
        left = [login for login in _stored(chosen.folder) if login[0] not in used]
        if not left:
            raise KitError(
                f"No account is left for this device. Make one at your broker {chosen.server}, "
                "and add it with: limpet broker use",
                NO_BROKER,
            )
        name, password = left[0]
        if client.login(chosen, name, password) != connect.ACCEPTED:
            raise KitError(
                f"Your broker {chosen.server} refuses the account {name}, which is the next for a "
                "device. Correct it there, or in the accounts file: limpet broker use",
                NO_BROKER,
            )
        # Used before it leaves the other file: a cut in between hands it out to nobody.
        write_private(chosen.folder / USED, "".join(f"{n}\n" for n in [*used, name]).encode())
        _store(chosen.folder, left[1:])
        return name, password


def put_back(chosen: Settings, name: str, password: Secret) -> None:
    """Undo `take` for an account that went to no device."""
    with locked(chosen.folder / _LOCK):
        others = [login for login in _stored(chosen.folder) if login[0] != name]
        _store(chosen.folder, [(name, password), *others])
        used = [n for n in _used(chosen.folder) if n != name]
        write_private(chosen.folder / USED, "".join(f"{n}\n" for n in used).encode())


def left(chosen: Settings) -> int:
    """How many accounts no device has yet."""
    used = _used(chosen.folder)
    return sum(name not in used for name, _ in _stored(chosen.folder))


def read(source: str) -> list[Login]:
    """The accounts of a file of mode 0600, or of stdin (`-`): `name:password` lines, the first
    is the kit's. Raises `KitError`: REFUSED when others can read the file, USAGE otherwise."""
    if source == "-":
        return parse(sys.stdin.buffer.read(), "stdin")
    file = Path(source)
    try:
        refuse_readable(file, "passwords")
        return parse(file.read_bytes(), source)
    except OSError as e:
        raise KitError(f"{file} cannot be read: {e.strerror}.", USAGE) from None


def parse(data: bytes, where: str) -> list[Login]:
    """Accounts of a text; errors name the line and `where` it is, and nothing of a password."""
    found: dict[str, Secret] = {}
    for number, line in enumerate(data.replace(b"\r\n", b"\n").split(b"\n"), 1):
        if not line:
            continue
        name, colon, password = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise KitError(f"Line {number} of {where} is not name:password.", USAGE)
        least = _PASSWORD_MIN if found else 1
        dull = found and len(set(password)) < _VARIED
        if dull or not least <= len(password) <= _PASSWORD_MAX or 0 in password:
            raise KitError(
                f"The password in line {number} of {where} is not fit: {least} to "
                f"{_PASSWORD_MAX} bytes without a zero, a device's random. Make one with: "
                "openssl rand -base64 24",
                USAGE,
            )
        if name.decode() in found:
            raise KitError(
                f"Line {number} of {where} names an account for the second time.", USAGE
            )
        found[name.decode()] = Secret(password)
    if not found:
        raise KitError(f"{where} holds no account; its first line is the kit's.", USAGE)
    logins = list(found.items())
    if not _is_text(logins[0][1]):
        raise KitError(f"The kit's password, the first of {where}, is not UTF-8 text.", USAGE)
    return logins


def _before(folder: Path, host: str, port: int) -> Settings | None:
    """What is in the folder already: this server's, or nothing."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    before = settings.load(folder) if (folder / "broker.toml").exists() else None
    if before and before.given and (before.names[0], before.port) == (host, port):
        return before
    raise KitError(
        f"{folder} is there already and is not of this broker; nothing was changed. Name another "
        f"folder: limpet broker use {host}:{port} ... DIR",
        ENROLLED if before else NO_BROKER,
    )


def _store(folder: Path, logins: Iterable[Login]) -> None:
    lines = [name.encode() + b":" + password.reveal() + b"\n" for name, password in logins]
    write_private(folder / ACCOUNTS, b"".join(lines))


def _stored(folder: Path) -> list[Login]:
    try:
        data = (folder / ACCOUNTS).read_bytes()
    except OSError as e:
        raise settings.broken(folder / ACCOUNTS, e.strerror or "not readable") from None
    return [
        (name.decode(), Secret(password))
        for name, _, password in (line.partition(b":") for line in data.split(b"\n") if line)
    ]


def _used(folder: Path) -> list[str]:
    try:
        return (folder / USED).read_text("ascii").split()
    except FileNotFoundError:
        return []


def _is_text(password: Secret) -> bool:
    try:
        return bool(password.reveal().decode())
    except UnicodeDecodeError:
        return False
