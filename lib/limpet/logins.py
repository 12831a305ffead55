"""Which record logs in, how long to wait before the next try, and what became of the last one.

The one place where the vault and the schedules meet.
"""

from . import speak, vault, x509
from .errors import LimpetError, Refused, Untrusted
from .retry import CLOSED, NETWORK, REFUSED, UNTRUSTED, Retry


class Logins:
    """`store` is a Vault; `random` gives 24 random bits."""

    def __init__(self, store, random):
        self._vault = store
        self._retry = Retry(random)

    def name(self):
        """The device's name, empty when nothing is enrolled that can be read."""
        try:
            record = self.record()
        except LimpetError:
            return ""
        if not record:
            return ""
        name = record.one(vault.NAME).decode()
        record.wipe()
        return name

    def record(self):
        """The record to log in with now, None when nothing is enrolled; wipe it after use.

        Raises LimpetError when what is there cannot be used.
        """
        return self._vault.read()

    def floor(self, record):
        """The time (s since 1970) before which it cannot be: PROTOCOLS.md 8, hard floor."""
        floor = int.from_bytes(record.one(vault.EARLIEST) or b"", "big")
        for der in record.all(vault.ANCHOR):
            floor = max(floor, x509.Certificate(der).not_before)
        return floor

    def failed(self, failure):
        """After a try or a connection that ended: ms to wait before the next one."""
        return self._retry.wait(classify(failure))

    def accepted(self, record):
        """A subscription was granted on a connection that used this record."""
        self._retry.healthy()
        self._vault.confirm(record)

    def acknowledgement(self, record):
        """What the kit is told (64 bytes) after a login with this record."""
        return speak.last_ack(record, self._vault.journal)


def classify(failure):
    """A LimpetError's class of schedule."""
    if isinstance(failure, Refused):
        return REFUSED
    if isinstance(failure, Untrusted):
        return UNTRUSTED
    return CLOSED if failure.code == "CLOSED_ON_LOGIN" else NETWORK
