"""A broker and its kit in one encrypted file, and back: settings, CA, accounts, ledger, kit keys.

The file, format 1:

    13 bytes  b"limpet-backup"
     1 byte   1, the format; it fixes scrypt's cost (n = 2^17, r = 8, p = 1: 128 MiB a guess)
    16 bytes  salt of scrypt, which makes the AES-256 key of the passphrase's UTF-8
    12 bytes  nonce
     n bytes  AES-256-GCM over a tar file, tag included; all before it is authenticated with it
    32 bytes  SHA-256 over all before it: tells a damaged file from a wrong passphrase

The tar holds `ledger.db`, `NAME.key` (kit keys) and `broker/NAME`. What a running broker makes
for itself is left out: log, process id, configuration, and its sessions and retained messages.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import tarfile
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from .. import interrupt, kitkey, paths
from ..errors import FAILED, REFUSED, USAGE, KitError
from ..ledger import Ledger
from ..secret import Secret
from . import rabbitmq, settings
from .files import beside, sync_folder, write_private
from .settings import Settings

SHORTEST = 12  # characters: who holds the file may guess without anybody noticing
_MAGIC, _FORMAT = b"limpet-backup", 1
_SALT, _NONCE, _TAG, _DIGEST = 16, 12, 16, 32
_HEAD = len(_MAGIC) + 1 + _SALT + _NONCE
_MADE_BY_RUNNING = re.compile(
    r"broker\.(log|pid)(\..*)?|mosquitto\.(conf|db)|definitions\.json"  # logs that were rotated
)
_LEDGER, _BROKER = "ledger.db", "broker/"
_NAME = re.compile(
    r"ledger\.db|[^/.][^/]*\.key|broker/([^/.][^/]*|" + re.escape(rabbitmq.COOKIE) + ")"
)


def gather(chosen: Settings) -> dict[str, bytes]:
    """What a backup of this broker and of this machine's kit holds, by name in the archive."""
    files = {
        _BROKER + path.name: path
        for path in sorted(chosen.folder.iterdir())
        if path.is_file()
        and (path.name[0] != "." or path.name == rabbitmq.COOKIE)
        and not _MADE_BY_RUNNING.fullmatch(path.name)
    }
    files.update((path.name, path) for path in sorted(paths.home().glob("[!.]*.key")))
    key = kitkey.path()
    if key.exists() and key not in files.values():
        files["chosen.key"] = key
    with tempfile.TemporaryDirectory() as folder, Ledger() as ledger:
        found = {name: _read(path) for name, path in files.items()}
        # The ledger last: an account that it alone has comes back with a sync; the other way
        # round, a sync would take it from the broker.
        copy = Path(folder) / _LEDGER
        ledger.backup(copy)
        return {**found, _LEDGER: _read(copy)}


def seal(entries: dict[str, bytes], passphrase: Secret) -> bytes:
    """The backup file's bytes; `KitError` (REFUSED) for a passphrase that is too short."""
    if len(passphrase.reveal().decode("utf-8", "replace")) < SHORTEST:
        raise KitError(
            f"The passphrase needs {SHORTEST} characters or more; nothing was written.", REFUSED
        )
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    head = _MAGIC + bytes((_FORMAT,)) + salt + nonce
    whole = head + _cipher(passphrase, salt).encrypt(nonce, plain.getvalue(), head)
    return whole + hashlib.sha256(whole).digest()


def unseal(file: Path, passphrase: Secret) -> dict[str, bytes]:
    """What `seal` was given. Raises `KitError` as `check` does, and for a wrong passphrase."""
    whole = check(file)[:-_DIGEST]
    head, salt, nonce = whole[:_HEAD], whole[len(_MAGIC) + 1 :][:_SALT], whole[_HEAD - _NONCE :]
    try:
        plain = _cipher(passphrase, salt).decrypt(nonce[:_NONCE], whole[_HEAD:], head)
    except InvalidTag:
        raise KitError(
            f"That is not the passphrase of {file}; nothing was restored.", FAILED
        ) from None
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is None or not _NAME.fullmatch(member.name):
                raise KitError(
                    f"{file} holds what no backup holds; nothing was restored.", REFUSED
                )
            entries[member.name] = content.read()
    return entries


def check(file: Path) -> bytes:
    """The file's bytes. Raises `KitError` when it is missing, no backup, newer, or damaged."""
    try:
        whole = file.read_bytes()
    except OSError as e:
        raise KitError(f"{file} cannot be read: {e.strerror}.", USAGE) from None
    if not whole.startswith(_MAGIC):
        raise KitError(f"{file} is no file of limpet broker backup.", USAGE)
    damaged = hashlib.sha256(whole[:-_DIGEST]).digest() != whole[-_DIGEST:]
    if damaged or len(whole) < _HEAD + _TAG + _DIGEST:
        raise KitError(
            f"{file} is damaged; nothing was restored. Take another copy of it.", FAILED
        )
    if whole[len(_MAGIC)] != _FORMAT:
        raise KitError(f"A newer kit wrote {file}; update this one.", FAILED)
    return whole


def vacant(folder: Path) -> None:
    """See that a restore would overwrite nothing; `KitError` (REFUSED) names what is there."""
    there = sorted([*paths.home().glob("[!.]*.key"), *paths.home().glob(_LEDGER)])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        there.append(folder)
    if there:
        raise KitError(
            f"{there[0]} is there already; nothing was restored. Move it away first, or choose "
            "an empty LIMPET_HOME and another DIR.",
            REFUSED,
        )


def restore(entries: dict[str, bytes], folder: Path) -> Settings:
    """Put a backup in its places: the broker in `folder`, the rest in the kit's own folder.

    All or nothing, and nothing is overwritten: `KitError` (REFUSED) when something is there.
    """
    folder = folder.expanduser().absolute()
    vacant(folder)
    placed: list[Path] = []
    with beside(folder) as building, beside(paths.home() / "restore") as staged:
        try:
            for name, content in entries.items():
                base = name.rpartition("/")[2]
                write_private((building if name.startswith(_BROKER) else staged) / base, content)
            chosen = settings.load(building)
            with Ledger(staged / _LEDGER) as ledger:
                ledger.know_broker(chosen.kit, folder, chosen.server)
            with interrupt.undisturbed():
                for path in sorted(staged.iterdir()):
                    target = paths.home() / path.name
                    os.link(path, target)  # other than a rename it never replaces
                    placed.append(target)
                os.replace(building, folder)
        except BaseException as e:
            for path in placed:
                path.unlink()
            if isinstance(e, OSError):
                raise KitError(f"Nothing was restored: {e.strerror}.", FAILED) from None
            raise
    sync_folder(folder.parent)
    sync_folder(paths.home())
    return settings.load(folder)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise KitError(f"{path} cannot be backed up: {e.strerror}.", FAILED) from None


def _cipher(passphrase: Secret, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt=salt, length=32, n=2**17, r=8, p=1).derive(passphrase.reveal()))
