"""What a device is given to log in with, by profile: drawn here, and nowhere else kept.

| profile | the device gets | the broker gets |
| --- | --- | --- |
| binary, text | a password | a verifier of it |
| psk | a key of 32 random bytes | the key itself |
| x509 | a key (EC P-256) and a certificate | the certificate's serial number |

At a broker that the user has (`broker/given.py`) it is the next of the accounts made there.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import ca, protocol
from .broker import accounts, given, keyed
from .broker.settings import Settings
from .secret import Secret


@dataclass(frozen=True)
class Credential:
    """`fields` are those of the record, `secret` the secret one of them, `verifier` what the
    ledger keeps; `fresh` a shared key that the broker has yet to be given."""

    account: str
    fields: tuple[tuple[int, bytes], ...]
    secret: Secret
    verifier: str
    fresh: tuple[Secret, ...] = ()


def draw(settings: Settings) -> Credential:
    """A fresh account for a device of this broker; one of the user's at a given broker.

    Raises `KitError` (NO_BROKER) when none of those is left, or the broker refuses it.
    """
    if settings.given:
        account, password = given.take(settings)
        login = ((protocol.ACCOUNT, account.encode()), (protocol.PASSWORD, password.reveal()))
        return Credential(account, login, password, settings.verifier(password))
    account = accounts.draw_account()
    named = (protocol.ACCOUNT, account.encode())
    if settings.profile == "x509":
        key, certificate, serial = ca.issue(settings.folder, account)
        proof = ((protocol.KEY, key.reveal()), (protocol.CERTIFICATE, certificate))
        return Credential(account, (named, *proof), key, keyed.of_certificate(serial))
    password = accounts.draw_password(settings.profile)
    fields = (named, (protocol.PASSWORD, password.reveal()))
    if settings.profile == "psk":
        return Credential(account, fields, password, keyed.of_key(password), (password,))
    return Credential(account, fields, password, settings.verifier(password))
