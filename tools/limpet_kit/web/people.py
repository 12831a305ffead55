"""The people who may use the web page, in the ledger: names, verifiers, devices, seats.

A seat is an account at the broker that a page holds while its person is logged in. A person's
password goes through argon2id and never to the broker; a seat's password is random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from ..broker import accounts
from ..errors import ENROLLED, REFUSED, USAGE, KitError
from ..ledger import Ledger, Unit
from ..secret import Secret

SHORTEST, LONGEST = 10, 1024  # of a person's password: characters, and bytes
_HASHER = argon2.PasswordHasher()  # argon2id as RFC 9106 advises where memory is short: 64 MiB


@dataclass(frozen=True)
class Person:
    """Who may log in; `devices` are names of units, None stands for all, also later ones."""

    name: str
    verifier: str
    devices: tuple[str, ...] | None
    created: int


@dataclass(frozen=True)
class Seat:
    """One account of a page, with its password; only the verifier is in the ledger."""

    account: str
    password: Secret


def hashed(password: Secret) -> str:
    """What is kept of a person's password. `KitError` when it is too short or too long."""
    long = len(password.reveal().decode("utf-8", "replace"))
    if long < SHORTEST or len(password) > LONGEST:
        raise KitError(
            f"A password for the web page has {SHORTEST} to {LONGEST} characters; anybody in the "
            "network may try to guess it.",
            REFUSED,
        )
    return _HASHER.hash(password.reveal())


def fits(password: Secret, verifier: str) -> bool:
    """Whether it is the password that `verifier` was made from."""
    try:
        return len(password) <= LONGEST and _HASHER.verify(verifier, password.reveal())
    except (VerificationError, InvalidHashError):
        return False


class People(Ledger):
    """The ledger, with its people."""

    def people(self) -> list[Person]:
        """All, by name."""
        rows = self._db.execute("SELECT name, verifier, every, created FROM person ORDER BY name")
        return [
            Person(name, verifier, None if every else tuple(self._devices(name)), created)
            for name, verifier, every, created in rows.fetchall()
        ]

    def person(self, name: str) -> Person | None:
        """The person of this name."""
        return next((one for one in self.people() if one.name == name), None)

    def add_person(self, name: str, password: Secret, devices: Iterable[str] | None) -> None:
        """A new person. `KitError` when the name is taken or unfit, or a device is unknown."""
        accounts.check_name(name)
        verifier = hashed(password)
        with self._transaction():
            if self.named(name) or self.person(name):
                raise KitError(
                    f"The name {name} is taken; people and devices share one name space. To "
                    f"change a person: limpet web user change {name}",
                    ENROLLED,
                )
            self._db.execute(
                "INSERT INTO person VALUES (?, ?, ?, ?)",
                (name, verifier, devices is None, int(time.time())),
            )
            self._give(name, devices)

    def change_person(
        self, name: str, password: Secret | None, devices: Iterable[str] | None, every: bool
    ) -> list[Path]:
        """Another password, other devices, or all (`every`); whoever is logged in is out.

        Returns the folders of the brokers that must be told (`registry.sync`).
        """
        verifier = hashed(password) if password else None
        with self._transaction():
            seated = self._seated(name)
            if verifier:
                self._db.execute("UPDATE person SET verifier = ? WHERE name = ?", (verifier, name))
            if devices is not None or every:
                self._db.execute("UPDATE person SET every = ? WHERE name = ?", (every, name))
                self._db.execute("DELETE FROM person_device WHERE person = ?", (name,))
                self._give(name, devices)
            self._db.execute("DELETE FROM seat WHERE person = ?", (name,))
        return seated

    def remove_person(self, name: str) -> list[Path]:
        """Nobody logs in as this person any more, and whoever is logged in is out.

        Returns the folders of the brokers that must be told (`registry.sync`).
        """
        with self._transaction():
            seated = self._seated(name)
            self._db.execute("DELETE FROM person WHERE name = ?", (name,))
        return seated

    def devices_of(self, person: Person, broker: str) -> list[Unit]:
        """The units of the broker with this id that the person may see."""
        if person.devices is None:
            found = self.units()
        else:
            found = [unit for name in person.devices if (unit := self.named(name))]
        return [unit for unit in found if unit.broker == broker and not unit.replaces]

    # -- seats

    def take_seats(
        self,
        person: Person,
        broker: str,
        count: int,
        ends: int,
        verifier: Callable[[Secret], str] = accounts.verifier,
    ) -> list[Seat]:
        """Accounts for a page, until `ends` (seconds since 1970); exported by the next sync.

        `verifier` makes what that broker keeps instead of a password. `KitError` when the person
        was changed or removed since it was read.
        """
        made = [Seat(accounts.draw_web(), accounts.draw_password("text")) for _ in range(count)]
        with self._transaction():
            if self.person(person.name) != person:
                raise KitError(f"{person.name} was changed at this moment.", REFUSED)
            self._db.executemany(
                "INSERT INTO seat VALUES (?, ?, ?, ?, ?)",
                [
                    (seat.account, person.name, broker, verifier(seat.password), ends)
                    for seat in made
                ],
            )
        return made

    def leave_seats(self, seats: Iterable[Seat]) -> None:
        """These accounts end with the next sync."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM seat WHERE account = ?", [(seat.account,) for seat in seats]
            )

    def clear_seats(self, broker: str) -> None:
        """All accounts of pages at this broker end with the next sync."""
        with self._transaction():
            self._db.execute("DELETE FROM seat WHERE broker = ?", (broker,))

    def seats(self) -> set[str]:
        """The accounts of all pages."""
        return {str(row[0]) for row in self._db.execute("SELECT account FROM seat").fetchall()}

    def version(self) -> int:
        """A number that changes whenever somebody else has written to the ledger."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # -- inside

    def _seated(self, name: str) -> list[Path]:
        """Folders of the brokers at which the person has seats; `KitError` for nobody."""
        if self.person(name) is None:
            raise KitError(f"There is no person {name}. All: limpet web user list", USAGE)
        rows = self._db.execute("SELECT DISTINCT broker FROM seat WHERE person = ?", (name,))
        return [self.broker_folder(row[0]) for row in rows.fetchall()]

    def _give(self, name: str, devices: Iterable[str] | None) -> None:
        wanted = sorted(set(devices or ()))
        for device in wanted:
            unit = self.named(device)
            if unit is None:
                raise KitError(f"There is no unit {device}. All: limpet ledger list", USAGE)
        self._db.executemany(
            "INSERT INTO person_device VALUES (?, ?)", [(name, device) for device in wanted]
        )
