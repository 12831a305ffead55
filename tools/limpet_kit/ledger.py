"""The ledger: which unit holds which account, and how far its enrolment has come. The people who
may use the web page are in it as well (web/people.py): they share one name space with the units.

SQLite in the kit's folder. No secret is in it: verifiers, digests, names, ids. A row's states
and how it leaves them: PROTOCOLS.md 5. Two kits may work on one ledger; each change is one
transaction that says from which state it comes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from . import paths
from .broker.accounts import Account, device_acl, person_acl
from .errors import ENROLLED, FAILED, KitError

NEW, PROVED, REGISTERED, ACTIVE, GONE = "NEW", "PROVED", "REGISTERED", "ACTIVE", "GONE"
REVOKED = "REVOKED"  # locked out; its accounts are kept, so that it can be let in again
UNFINISHED = (NEW, PROVED, REGISTERED)
_AT_BROKER = (PROVED, REGISTERED, ACTIVE)  # PROVED too: the export must come before REGISTERED
_OF_UNIT = ("unit", "account", "change", "canary")  # tables with rows of a unit, that one first
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
    """
    -- sequence of the change that brought it, 0 by cable
    ALTER TABLE account ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
    -- 1: it is to leave the broker; the row goes when the broker has been told
    ALTER TABLE account ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE change (
        vault TEXT NOT NULL REFERENCES unit (vault) ON DELETE CASCADE,
        sequence INTEGER NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        cause INTEGER NOT NULL DEFAULT 0,   -- of a failure, as the device says
        detail TEXT NOT NULL DEFAULT '',    -- what it brings, where that is no secret
        settled INTEGER NOT NULL DEFAULT 0, -- accounts and retained box have been seen to
        changed INTEGER NOT NULL,
        PRIMARY KEY (vault, sequence)
    );
    """,
    """
    -- a generation below `generation` that it showed later, and when; 0: never
    ALTER TABLE unit ADD COLUMN older INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE unit ADD COLUMN older_at INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE person (
        name TEXT PRIMARY KEY,
        verifier TEXT NOT NULL,   -- argon2id of the password
        every INTEGER NOT NULL,   -- 1: all devices, also later ones
        created INTEGER NOT NULL
    );
    CREATE TABLE person_device (
        person TEXT NOT NULL REFERENCES person (name) ON DELETE CASCADE,
        device TEXT NOT NULL,     -- name of a unit
        PRIMARY KEY (person, device)
    );
    CREATE TABLE seat (           -- an account of a page that is logged in
        account TEXT PRIMARY KEY,
        person TEXT NOT NULL REFERENCES person (name) ON DELETE CASCADE,
        broker TEXT NOT NULL REFERENCES broker (id),
        verifier TEXT NOT NULL,
        ends INTEGER NOT NULL     -- seconds since 1970
    );
    """,
    """
    -- digests by which an audit finds a unit's secrets without holding them (audit/canary.py)
    CREATE TABLE canary (
        line TEXT PRIMARY KEY,
        vault TEXT NOT NULL REFERENCES unit (vault) ON DELETE CASCADE
    );
    """,
    """
    -- which library the kit left on it (install.digest), and what the last audit said, and when
    ALTER TABLE unit ADD COLUMN digest TEXT NOT NULL DEFAULT '';
    ALTER TABLE unit ADD COLUMN audit TEXT NOT NULL DEFAULT '';
    ALTER TABLE unit ADD COLUMN audited INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- where it counts and of what kind it is: a move brings one of another broker than the unit's
    ALTER TABLE account ADD COLUMN broker TEXT NOT NULL DEFAULT '';
    ALTER TABLE account ADD COLUMN profile TEXT NOT NULL DEFAULT '';
    UPDATE account SET (broker, profile) =
        (SELECT broker, profile FROM unit WHERE unit.vault = account.vault);
    """,
    """
    -- what few rows say is found without reading those of a whole fleet
    CREATE INDEX account_ended ON account (broker) WHERE ended;
    CREATE INDEX account_vault ON account (vault);
    CREATE INDEX unit_revoked ON unit (vault) WHERE state = 'REVOKED';
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
    older: int = 0
    older_at: int = 0
    digest: str = ""
    audit: str = ""
    audited: int = 0

    @property
    def alert(self) -> str:
        """What is wrong with this unit, in words; empty when nothing is."""
        if not self.older:
            return ""
        return (
            f"{self.name} showed generation {self.older} of its credential, after generation "
            f"{self.generation} was known: an older image of its flash was put back. Whoever "
            "could do that may have read it: "
            f"limpet revoke {self.name}, then enrol it anew by cable. If the cause is known: "
            f"limpet ledger clear {self.name}"
        )


# States of a change over the link (PROTOCOLS.md 6).
DRAWN, SENDING, SENT = "DRAWN", "SENDING", "SENT"
APPLIED, FAILED_CHANGE, VOID, ABANDONED = "APPLIED", "FAILED", "VOID", "ABANDONED"
OPEN = (DRAWN, SENDING, SENT)


@dataclass(frozen=True)
class Change:
    """One change that was drawn for a unit; the columns of the table `change`."""

    vault: str
    sequence: int
    kind: str
    state: str
    cause: int
    detail: str
    settled: int
    changed: int


@dataclass(frozen=True)
class Login:
    """An account that a change brings: what the broker with this id is to know of it, and the
    credential profile that it is of."""

    account: str
    verifier: str
    broker: str
    profile: str


_L = TypeVar("_L", bound="Ledger")
_COLUMNS = tuple(field.name for field in fields(Unit))


class NameTaken(KitError):
    """Another unit has the name."""


class Ledger:
    """The ledger in one file; use it as a context manager."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.home() / "ledger.db"

    def __enter__(self: _L) -> _L:
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
        return next(iter(self._called(name)), None)

    def enrolments(self, name: str) -> list[Unit]:
        """Every enrolment that may log in as this name, or is about to take its place."""
        named = self._called(name)
        vaults = {unit.vault for unit in named}
        taking = self._units("WHERE replaces NOTNULL AND state <> 'GONE'")
        return named + [u for u in taking if u.replaces in vaults and u.vault not in vaults]

    def unfinished(self, chip: str) -> list[Unit]:
        """Enrolments of a board with this chip id that have not left NEW."""
        return self._units("WHERE chip = ? AND state = 'NEW'", chip)

    def account(self, vault: str) -> str:
        """The account of an enrolment."""
        row = self._db.execute(
            "SELECT name FROM account WHERE vault = ? ORDER BY ended, sequence", (vault,)
        ).fetchone()
        return str(row[0]) if row else ""

    def logins(self, vault: str, broker: str | None = None) -> set[str]:
        """Every account under which an enrolment may log in, one that is just being tried too: at
        any broker, or at the one with this id."""
        rows = self._db.execute(
            "SELECT name, broker FROM account WHERE vault = ? AND NOT ended", (vault,)
        )
        return {str(name) for name, where in rows.fetchall() if broker in (None, where)}

    def brokers(self, vault: str) -> set[str]:
        """Ids of the brokers at which an enrolment has an account, be it one that has ended and
        has yet to leave."""
        rows = self._db.execute("SELECT broker FROM account WHERE vault = ?", (vault,))
        return {str(row[0]) for row in rows.fetchall()}

    def changes(self, vault: str | None = None) -> list[Change]:
        """The changes of a unit, or of all, oldest first."""
        where, values = ("WHERE vault = ?", (vault,)) if vault else ("", ())
        rows = self._db.execute(f"SELECT * FROM change {where} ORDER BY changed, sequence", values)
        return [Change(*row) for row in rows.fetchall()]

    def accounts(self, broker: str, homeassistant: bool = False) -> Iterator[Account]:
        """What the broker with this id must know of devices and of people who are logged in at
        the web page, read at the moment of iteration. `homeassistant` as of `device_acl`.

        The oldest first: of two exports the one begins as the other did, and is soon compared.
        """
        marks = ", ".join("?" * len(_AT_BROKER))
        # Joined here: of 100,000 that takes three quarters of SQLite's time.
        names = dict(
            self._db.execute(f"SELECT vault, name FROM unit WHERE state IN ({marks})", _AT_BROKER)
        )
        rows = self._db.execute(
            "SELECT name, verifier, vault FROM account WHERE broker = ? AND NOT ended "
            "ORDER BY rowid",
            (broker,),
        )
        for account, verifier, vault in rows:
            if vault in names:
                yield Account(account, verifier, device_acl(names[vault], homeassistant))
        rows = self._db.execute(
            "SELECT account, seat.verifier, person, every FROM seat JOIN person ON name = person "
            "WHERE broker = ? AND ends > ? ORDER BY account",
            (broker, int(time.time())),
        )
        for account, verifier, person, every in rows.fetchall():
            devices = None if every else self._devices(person)
            yield Account(account, verifier, person_acl(person, devices))

    def broker_folder(self, id: str) -> Path:
        """Where a broker was seen last."""
        row = self._db.execute("SELECT folder FROM broker WHERE id = ?", (id,)).fetchone()
        return Path(row[0])

    def ended(self, broker: str) -> set[str]:
        """Accounts that have to leave the broker with this id."""
        rows = self._db.execute(
            "SELECT name FROM account WHERE broker = ?1 AND ended UNION SELECT account.name "
            "FROM unit CROSS JOIN account USING (vault) "
            "WHERE state = 'REVOKED' AND account.broker = ?1",
            (broker,),
        )
        return {str(row[0]) for row in rows.fetchall()}

    def canaries(self, name: str) -> list[str]:
        """Lines of a canary file for all that units of this name were ever given."""
        rows = self._db.execute(
            "SELECT line FROM canary JOIN unit USING (vault) WHERE unit.name = ?", (name,)
        )
        return [str(row[0]) for row in rows.fetchall()]

    # -- writing

    def remember(self, vault: str, lines: list[str]) -> None:
        """Keep digests of what an enrolment was given."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO canary VALUES (?, ?)", [(line, vault) for line in lines]
            )

    def forget(self, accounts: set[str]) -> None:
        """The broker has been told: these ended accounts are gone."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM account WHERE name = ? AND ended", [(name,) for name in accounts]
            )

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
            if self._db.execute("SELECT 1 FROM person WHERE name = ?", (unit.name,)).fetchone():
                raise KitError(
                    f"{unit.name} is the name of a person (limpet web user list). Choose another "
                    "with --name.",
                    ENROLLED,
                )
            holder = self.named(unit.name)
            rival = unit.replaces and self._units("WHERE replaces = ?", unit.replaces)
            if rival:
                raise KitError(
                    f"Another board is taking that unit's place already; finish with it, or give "
                    f"it up: limpet ledger drop {rival[0].name}",
                    ENROLLED,
                )
            if holder and holder.vault != unit.replaces:
                raise NameTaken(
                    f"The name {unit.name} is taken. Choose another with --name, or give this "
                    f"board its place: --replace {unit.name}",
                    ENROLLED,
                )
            values = [getattr(unit, column) for column in _COLUMNS]
            marks = ", ".join("?" * len(values))
            self._db.execute(f"INSERT INTO unit VALUES ({marks})", values)
            self._add_account(Login(account, verifier, unit.broker, unit.profile), unit.vault, 0)

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

    def note_software(self, unit: Unit, micropython: str, library: str, digest: str) -> Unit:
        """What runs on it now: the versions it claims, and the library that the kit left there."""
        self._note(unit.vault, micropython=micropython, library=library, digest=digest)
        return replace(unit, micropython=micropython, library=library, digest=digest)

    def note_audit(self, vault: str, words: str) -> None:
        """What an audit said of the board that holds this record."""
        self._note(vault, audit=words, audited=int(time.time()))

    def _note(self, vault: str, **values: str | int) -> None:
        marks = ", ".join(f"{column} = ?" for column in values)
        with self._transaction():
            self._db.execute(f"UPDATE unit SET {marks} WHERE vault = ?", (*values.values(), vault))

    def retire(self, unit: Unit) -> None:
        """A unit whose place is taken is GONE, with its account; `registry.sync` tells brokers."""
        with self._transaction():
            self._db.execute("UPDATE account SET ended = 1 WHERE vault = ?", (unit.vault,))
            self._db.execute(
                "UPDATE unit SET state = 'GONE', replaces = NULL, changed = ? WHERE vault = ?",
                (int(time.time()), unit.vault),
            )

    def saw(self, unit: Unit, generation: int) -> Unit:
        """A unit has shown this generation; one that is lower than it was when `unit` was read is
        remembered, and makes an alert. The unit as it is now."""
        if 0 < generation < unit.generation:
            self._note(unit.vault, older=generation, older_at=int(time.time()))
        return self.unit(unit.vault) or unit

    def clear(self, unit: Unit) -> None:
        """Forget a unit's alert."""
        self._note(unit.vault, older=0, older_at=0)

    def revoke(self, unit: Unit) -> None:
        """Lock a unit out: its accounts leave the export, its open change is void. It wins over
        whatever else is under way."""
        now = int(time.time())
        with self._transaction():
            self._db.execute(
                "UPDATE unit SET state = 'REVOKED', changed = ? WHERE vault = ?", (now, unit.vault)
            )
            self._db.execute(
                "UPDATE change SET state = 'VOID', changed = ? WHERE vault = ? "
                f"AND state IN ({', '.join('?' * len(OPEN))})",
                (now, unit.vault, *OPEN),
            )

    def let_in(self, unit: Unit) -> None:
        """Undo `revoke`."""
        with self._transaction():
            self._db.execute(
                "UPDATE unit SET state = 'ACTIVE', changed = ? WHERE vault = ?",
                (int(time.time()), unit.vault),
            )

    def pass_on(self, old: str, new: str) -> None:
        """Whoever may see the device `old` may see the one that takes its place as `new`."""
        with self._transaction():
            self._db.execute(
                "UPDATE OR IGNORE person_device SET device = ? WHERE device = ?", (new, old)
            )
            self._db.execute("DELETE FROM person_device WHERE device = ?", (old,))

    def settle(self, unit: Unit) -> Unit:
        """End of a replacement: this unit holds its name alone; the unit as it is now."""
        with self._transaction():
            self._db.execute("UPDATE unit SET replaces = NULL WHERE vault = ?", (unit.vault,))
        return replace(unit, replaces=None)

    # -- changes over the link

    def draw(self, unit: Unit, kind: str, detail: str = "", login: Login | None = None) -> Change:
        """A new change, with its account if it brings one.

        Raises `KitError` while another one is open: one change a unit.
        """
        with self._transaction():
            before = self.changes(unit.vault)
            if any(change.state in OPEN for change in before):
                raise KitError(f"A change of {unit.name} is under way already.", FAILED)
            sequence = 1 + max((change.sequence for change in before), default=0)
            made = Change(unit.vault, sequence, kind, DRAWN, 0, detail, 0, int(time.time()))
            values = [getattr(made, field.name) for field in fields(Change)]
            self._db.execute(f"INSERT INTO change VALUES ({', '.join('?' * len(values))})", values)
            if login:
                self._add_account(login, unit.vault, sequence)
        return made

    def move(self, change: Change, state: str, cause: int = 0, generation: int = 0) -> Change:
        """Move a change on; `KitError` when somebody else has moved it meanwhile.

        An account leaves with a change that was never sent, or whose failure is authenticated;
        with one that was applied all earlier ones do, and the unit is where its account is.
        """
        with self._transaction():
            done = self._db.execute(
                "UPDATE change SET state = ?, cause = ?, changed = ? "
                "WHERE vault = ? AND sequence = ? AND state = ?",
                (state, cause, int(time.time()), change.vault, change.sequence, change.state),
            )
            if done.rowcount != 1:
                raise KitError("Another limpet moves this change at the moment.", FAILED)
            if state in (VOID, FAILED_CHANGE):
                self._end_accounts(change, "=")
            elif state == APPLIED:
                self._follow_account(change)
                self._db.execute(
                    "UPDATE unit SET generation = max(generation, ?) WHERE vault = ?",
                    (generation, change.vault),
                )
        return replace(change, state=state, cause=cause)

    def settle_change(self, change: Change) -> None:
        """The broker knows the accounts that are left, and its box is cleared."""
        with self._transaction():
            self._db.execute(
                "UPDATE change SET settled = 1 WHERE vault = ? AND sequence = ?",
                (change.vault, change.sequence),
            )

    def _add_account(self, login: Login, vault: str, sequence: int) -> None:
        self._db.execute(
            "INSERT INTO account (name, vault, verifier, broker, profile, sequence) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (login.account, vault, login.verifier, login.broker, login.profile, sequence),
        )

    def _end_accounts(self, change: Change, which: str) -> None:
        self._db.execute(
            f"UPDATE account SET ended = 1 WHERE vault = ? AND sequence {which} ?",
            (change.vault, change.sequence),
        )

    def _follow_account(self, change: Change) -> None:
        """What the change brought, if it brought an account, is the only one from now on."""
        row = self._db.execute(
            "SELECT broker, profile FROM account WHERE vault = ? AND sequence = ?",
            (change.vault, change.sequence),
        ).fetchone()
        if row:
            self._end_accounts(change, "<")
            self._db.execute(
                "UPDATE unit SET broker = ?, profile = ? WHERE vault = ?", (*row, change.vault)
            )

    def drop(self, unit: Unit) -> None:
        """Remove an enrolment that is still NEW, with its account; no broker has seen it."""
        with self._transaction():
            self._db.execute("DELETE FROM unit WHERE vault = ? AND state = 'NEW'", (unit.vault,))

    def backup(self, file: Path) -> None:
        """Copy the ledger as it is at one moment into a new file of mode 0600."""
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        copy = sqlite3.connect(file)
        try:
            self._db.backup(copy)
        except BaseException:
            file.unlink(missing_ok=True)  # half a copy would pass for a whole one
            raise
        finally:
            copy.close()

    def take(self, file: Path) -> list[str]:
        """Take over the units of a copy that are not here, with their accounts and changes.

        All or nothing; the names of those taken. Raises `KitError` for what is no ledger of this
        version, and ENROLLED when a name means another unit or a person here.
        """
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.db"
            shutil.copyfile(file, copy)  # it is migrated, and the given file stays as it is
            if not _is_ledger(copy):
                raise KitError(f"{file} is no ledger of this kit; nothing was taken.")
            with Ledger(copy):
                pass  # it is of this version now
            self._db.execute("ATTACH ? AS other", (str(copy),))
            try:
                with self._transaction():
                    names = self._take()
            except sqlite3.IntegrityError:
                raise KitError(
                    "A name in the copy means another unit or a person here; nothing was taken.",
                    ENROLLED,
                ) from None
            finally:
                self._db.execute("DETACH other")
        return names

    def _take(self) -> list[str]:
        """From the attached copy; `sqlite3.IntegrityError` when a name is taken."""
        new = "SELECT vault, name FROM other.unit WHERE vault NOT IN (SELECT vault FROM main.unit)"
        self._db.execute(f"CREATE TEMP TABLE new AS {new} ORDER BY created, name")
        # All brokers: a unit that is being moved has accounts at two.
        self._db.execute("INSERT OR IGNORE INTO broker SELECT * FROM other.broker")
        for table in _OF_UNIT:
            self._db.execute(
                f"INSERT INTO main.{table} SELECT * FROM other.{table} "
                "WHERE vault IN (SELECT vault FROM new)"
            )
        names = [str(row[0]) for row in self._db.execute("SELECT name FROM new").fetchall()]
        self._db.execute("DROP TABLE new")
        if self._db.execute(
            "SELECT 1 FROM person JOIN unit USING (name) WHERE state <> 'GONE'"
        ).fetchone():
            raise sqlite3.IntegrityError
        return names

    # -- inside

    def _called(self, name: str) -> list[Unit]:
        return self._units("WHERE name = ? AND state <> 'GONE' ORDER BY replaces NOTNULL", name)

    def _units(self, rest: str, *values: str) -> list[Unit]:
        rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM unit {rest}", values)
        return [Unit(*row) for row in rows.fetchall()]

    def _devices(self, person: str) -> list[str]:
        rows = self._db.execute(
            "SELECT device FROM person_device WHERE person = ? ORDER BY device", (person,)
        )
        return [str(row[0]) for row in rows.fetchall()]

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


def _is_ledger(file: Path) -> bool:
    """Whether a kit has made this database."""
    try:
        with closing(sqlite3.connect(file)) as found:
            version = found.execute("PRAGMA user_version").fetchone()[0]
            tables = found.execute("SELECT name FROM sqlite_master WHERE name = 'unit'").fetchall()
    except sqlite3.DatabaseError:
        return False
    return bool(version and tables)
