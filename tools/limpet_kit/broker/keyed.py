"""Accounts that prove themselves in TLS, without a password: shared keys and certificates.

`keys` holds `NAME:KEY` lines (mosquitto.conf(5), psk_file; the key in hex): the broker has to
have a shared key itself. `certificates` holds `NAME:SERIAL` lines of those that may log in;
`revoked.crl` lists the others (PEM). The ledger keeps a key's digest, or a serial number, as the
verifier.

Mosquitto reads these files with SIGHUP, but leaves the live sessions of such accounts open
(measured, 2.0.11): `server.sync` closes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from .. import ca
from ..errors import FAILED, KitError
from ..secret import Secret
from .files import write_private

KEYS = "keys"
CERTIFICATES = "certificates"
PROFILES = ("psk", "x509")
_KEY, _SERIAL = "key:", "serial:"


def of_key(key: Secret) -> str:
    """The verifier of a shared key of 32 random bytes: nobody finds it from its digest."""
    return _KEY + hashlib.sha256(key.reveal()).hexdigest()


def of_certificate(serial: int) -> str:
    """The verifier of a certificate."""
    return f"{_SERIAL}{serial:x}"


def is_keyed(verifier: str) -> bool:
    """Whether this is the verifier of such an account."""
    return verifier.startswith((_KEY, _SERIAL))


def read(folder: Path) -> dict[str, str]:
    """Account name to verifier, as the files say."""
    found = {name: of_key(Secret(bytes.fromhex(key))) for name, key in _lines(folder / KEYS)}
    found.update({name: _SERIAL + serial for name, serial in _lines(folder / CERTIFICATES)})
    return found


def write(folder: Path, wanted: Mapping[str, str], fresh: Iterable[Secret] = ()) -> None:
    """Make these (name to verifier) the accounts of the files.

    Keys come from the file as it is, or from `fresh`: the ledger has none. One that was lost with
    the process that drew it is left out; nobody could log in with it.
    """
    before = _lines(folder / KEYS)
    known = {of_key(key): key.reveal().hex() for key in fresh}
    known.update({of_key(Secret(bytes.fromhex(key))): key for _, key in before})
    if before or any(verifier.startswith(_KEY) for verifier in wanted.values()):
        lines = [f"{name}:{known[v]}\n" for name, v in wanted.items() if v in known]
        write_private(folder / KEYS, "".join(lines).encode("ascii"))
    serials = {n: v.removeprefix(_SERIAL) for n, v in wanted.items() if v.startswith(_SERIAL)}
    left = set(dict(_lines(folder / CERTIFICATES)).values())
    if left or serials:
        good = set(serials.values())
        ca.revoke(folder, [int(s, 16) for s in left - good], [int(s, 16) for s in good])
        lines = [f"{name}:{serial}\n" for name, serial in serials.items()]
        write_private(folder / CERTIFICATES, "".join(lines).encode("ascii"))


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        text = "?"
    found = [line.partition(":") for line in text.splitlines()]
    if any(not value or set(value) - set("0123456789abcdef") for _, _, value in found):
        raise KitError(f"{path} holds a line that the kit did not write.", FAILED)
    return [(name, value) for name, _, value in found]
