"""The ledger: which unit holds which account, and how far its enrolment has come.

SQLite in the kit's folder. No secret is in it: verifiers, names, ids. A row's states and how it
leaves them: PROTOCOLS.md 5. Two kits may work on one ledger; each change is one transaction that
says from which state it comes.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from . import paths
from .broker.accounts import Account, device_acl
from .errors import ENROLLED, FAILED, KitError

NEW, PROVED, REGISTERED, ACTIVE, GONE = "NEW", "PROVED", "REGISTERED", "ACTIVE", "GONE"
UNFINISHED = (NEW, PROVED, REGISTERED)
_AT_BROKER = (PROVED, REGISTERED, ACTIVE)  # PROVED too: the export must come before REGISTERED
_WAIT_S = 10.0  # for another kit's transaction

# One script a version of the schema; a ledger gets those that it lacks, and never another.
_MIGRATIONS = (
    """
    CREATE TABLE broker (
        id TEXT PRIMARY KEY,      -- stem of the kit's accounts there
        folder TEXT NOT NULL,     -- where it was seen last
        server TEXT NOT NULL
    );
    CREATE TABLE unit (
        vault TEXT PRIMARY KEY,   -- vault id, hex: one for each enrolment
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        broker TEXT NOT NULL REFERENCES broker (id),
        kit_key TEXT NOT NULL,
        profile TEXT NOT NULL,
        source INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        chip TEXT NOT NULL,       -- what the board claims, hex
        machine TEXT NOT NULL,    -- what the board claims
        micropython TEXT NOT NULL,
        library TEXT NOT NULL,
        replaces TEXT,            -- vault id of the unit whose place this one takes
        created INTEGER NOT NULL, -- seconds since 1970
        changed INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX unit_name ON unit (name) WHERE state <> 'GONE' AND replaces IS NULL;
    CREATE UNIQUE INDEX unit_replaces ON unit (replaces);
    CREATE TABLE account (
        name TEXT PRIMARY KEY,
        vault TEXT NOT NULL REFERENCES unit (vault) ON DELETE CASCADE,
        verifier TEXT NOT NULL
    );
    """,
)


@dataclass(frozen=True)
class Unit:
    """One enrolment of one board; the columns of the table `unit`."""

    vault: str
    name: str
    state: str
    broker: str
    kit_key: str
    profile: str
    source: int
    generation: int
    chip: str
    machine: str
    micropython: str
    library: str
    replaces: str | None
    created: int
    changed: int


_COLUMNS = tuple(field.name for field in fields(Unit))


class Ledger:
    """The ledger in one file; use it as a context manager."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.home() / "ledger.db"

    def __enter__(self) -> Ledger:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            self._db = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except sqlite3.DatabaseError as e:
            raise KitError(f"The ledger {self.path} cannot be used: {e}.", FAILED) from None
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # -- reading

    def units(self, gone: bool = False) -> list[Unit]:
        """All units, oldest first; with `gone` also those that were replaced."""
        where = "" if gone else "WHERE state <> 'GONE'"
        return self._units(f"{where} ORDER BY created, name")

    def unit(self, vault: str) -> Unit | None:
        """The enrolment with this vault id."""
        found = self._units("WHERE vault = ?", vault)
        return found[0] if found else None

    def named(self, name: str) -> Unit | None:
        """The unit of this name; while one takes another's place, the one that is there."""
        found = self._units("WHERE name = ? AND state <> 'GONE' ORDER BY replaces NOTNULL", name)
        return found[0] if found else None

    def unfinished(self, chip: str) -> list[Unit]:
        """Enrolments of a board with this chip id that have not left NEW."""
        return self._units("WHERE chip = ? AND state = 'NEW'", chip)

    def account(self, vault: str) -> str:
        """The account of an enrolment."""
        row = self._db.execute("SELECT name FROM account WHERE vault = ?", (vault,)).fetchone()
        return str(row[0])

    def accounts(self, broker: str) -> Iterator[Account]:
        """What the broker with this id must know of devices, read at the moment of iteration."""
        marks = ", ".join("?" * len(_AT_BROKER))
        rows = self._db.execute(
            "SELECT account.name, verifier, unit.name FROM account JOIN unit USING (vault) "
            f"WHERE broker = ? AND state IN ({marks}) ORDER BY account.name",
            (broker, *_AT_BROKER),
        )
        for account, verifier, device in rows.fetchall():
            yield Account(account, verifier, device_acl(device))

    # -- writing

    def know_broker(self, id: str, folder: Path, server: str) -> None:
        """Remember where a broker is."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO broker VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET folder = excluded.folder, server = excluded.server",
                (id, str(folder), server),
            )

    def add(self, unit: Unit, account: str, verifier: str) -> None:
        """A new enrolment and its account.

        Raises `KitError` (ENROLLED) when the name is taken, unless the unit replaces its holder.
        """
        with self._transaction():
            holder = self.named(unit.name)
            rival = unit.replaces and self._units("WHERE replaces = ?", unit.replaces)
            if rival:
                raise KitError(
                    f"Another board is taking that unit's place already; finish with it, or give "
                    f"it up: limpet ledger drop {rival[0].name}",
                    ENROLLED,
                )
            if holder and holder.vault != unit.replaces:
                raise KitError(
                    f"The name {unit.name} is taken. Choose another with --name, or give this "
                    f"board its place: --replace {unit.name}",
                    ENROLLED,
                )
            values = [getattr(unit, column) for column in _COLUMNS]
            marks = ", ".join("?" * len(values))
            self._db.execute(f"INSERT INTO unit VALUES ({marks})", values)
            self._db.execute(
                "INSERT INTO account VALUES (?, ?, ?)", (account, unit.vault, verifier)
            )

    def advance(self, unit: Unit, state: str, generation: int | None = None) -> Unit:
        """Move a unit from the state it was read in to another; the unit as it is now.

        Raises `KitError` when somebody else has moved or removed it meanwhile.
        """
        with self._transaction():
            done = self._db.execute(
                "UPDATE unit SET state = ?, generation = ?, changed = ? "
                "WHERE vault = ? AND state = ?",
                (
                    state,
                    unit.generation if generation is None else generation,
                    int(time.time()),
                    unit.vault,
                    unit.state,
                ),
            )
            now = self.unit(unit.vault)
            if done.rowcount != 1 or now is None:
                raise KitError(
                    f"Another limpet changed {unit.name} in the ledger at this moment. Run the "
                    "same command again.",
                    FAILED,
                )
        return now

    def retire(self, unit: Unit) -> None:
        """A unit whose place is taken is GONE, with its account; `registry.sync` tells brokers."""
        with self._transaction():
            self._db.execute("DELETE FROM account WHERE vault = ?", (unit.vault,))
            self._db.execute(
                "UPDATE unit SET state = 'GONE', replaces = NULL, changed = ? WHERE vault = ?",
                (int(time.time()), unit.vault),
            )

    def settle(self, unit: Unit) -> Unit:
        """End of a replacement: this unit holds its name alone; the unit as it is now."""
        with self._transaction():
            self._db.execute("UPDATE unit SET replaces = NULL WHERE vault = ?", (unit.vault,))
        return replace(unit, replaces=None)

    def drop(self, unit: Unit) -> None:
        """Remove an enrolment that is still NEW, with its account; no broker has seen it."""
        with self._transaction():
            self._db.execute("DELETE FROM unit WHERE vault = ? AND state = 'NEW'", (unit.vault,))

    # -- inside

    def _units(self, rest: str, *values: str) -> list[Unit]:
        rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM unit {rest}", values)
        return [Unit(*row) for row in rows.fetchall()]

    def _migrate(self) -> None:
        if self._version() > len(_MIGRATIONS):
            raise KitError(f"A newer kit wrote the ledger {self.path}; update this one.", FAILED)
        if self._version() == len(_MIGRATIONS):
            return
        with self._transaction():
            for number in range(self._version(), len(_MIGRATIONS)):
                for statement in _MIGRATIONS[number].split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number + 1}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
