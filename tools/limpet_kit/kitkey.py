"""The kit key: 32 random bytes from which the control key of every device is computed.

It lies in a file of its own, never in the ledger and never on the broker's machine. Whoever has
it can change every device that was enrolled with it; without it, they are enrolled anew. A
production line has one of its own, so that its machine does not hold the key of the other units.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from . import paths, protocol
from .broker.files import locked, write_private
from .errors import FAILED, REFUSED, KitError
from .ledger import Unit
from .secret import Secret

_SIZE = 32


@dataclass(frozen=True)
class KitKey:
    """The key and its id: 8 bytes in hex by which the ledger tells several keys apart."""

    id: str
    secret: Secret


VARIABLE = "LIMPET_KIT_KEY"  # the file of another key to enrol with


def path() -> Path:
    """Where the kit key lies with which units are enrolled."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else paths.home() / "kit.key"


def of(id: str, name: str) -> KitKey:
    """The kit key with which the unit `name` was enrolled: the chosen one, or one of the
    `*.key` files in the kit's folder. `KitError` when none of them is it."""
    kept = sorted(paths.home().glob("*.key"))
    for file in (path(), *kept):
        if file.exists() or not kept:  # with none at all, say that it is missing
            key = load(file=file)
            if key.id == id:
                return key
    raise KitError(
        f"{name} was enrolled with another kit key ({id}) than those in {paths.home()}. Put "
        "that one there, under any name that ends in .key.",
        FAILED,
    )


def control_key(unit: Unit) -> Secret:
    """The control key of an enrolled unit; `KitError` as `of`."""
    key = of(unit.kit_key, unit.name)
    return protocol.control_key(key.secret, bytes.fromhex(unit.vault))


def load(make: bool = False, file: Path | None = None) -> KitKey:
    """The kit key; with `make` it is drawn when there is none.

    Raises `KitError` when it is missing, readable for others, or not a kit key.
    """
    file = file or path()
    if make and not file.exists():
        with locked(file.with_name(".kit.key.lock")):
            if not file.exists():
                write_private(file, secrets.token_bytes(_SIZE))
    try:
        readable = file.stat().st_mode & 0o077
        value = file.read_bytes()
    except FileNotFoundError:
        raise KitError(
            f"The kit key {file} is missing. Bring it back from your backup: without it, enrolled "
            "boards cannot be changed over the air.",
            FAILED,
        ) from None
    if readable:
        raise KitError(
            f"Others can read the kit key {file}. If nobody did: chmod 600 {file}", REFUSED
        )
    if len(value) != _SIZE:
        raise KitError(f"{file} is not a kit key: it has {len(value)} bytes.", FAILED)
    return KitKey(hashlib.sha256(b"limpet/1/kit-key-id" + value).hexdigest()[:16], Secret(value))
