"""Changes over the link: accounts, anchors, servers, networks, wiping. PROTOCOLS.md 6.

One exchange for all. A sealed box is retained on `limpet/<device>/kit/set`; the device tries it,
keeps or drops it, and says so with a tag that only it can make. An account is removed for such an
acknowledgement alone, never for a time-out. Whatever is cut here is finished by the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from . import credentials, kitkey, protocol, registry
from .audit import canary
from .broker.client import KitClient
from .broker.settings import Settings
from .errors import NO_BROKER, KitError
from .ledger import (
    ABANDONED,
    APPLIED,
    DRAWN,
    FAILED_CHANGE,
    OPEN,
    SENDING,
    SENT,
    VOID,
    Change,
    Ledger,
    Unit,
)
from .secret import Secret

ACCOUNT, ANCHORS, SERVERS, NETWORKS, WIPE = "account", "anchors", "servers", "networks", "wipe"
RETAINED_S = 5.0  # for what the broker has retained to arrive
_STALE = 255  # cause of a change that the device takes for an old one

Fields = list[tuple[int, bytes]]
Step = Callable[[Unit, str], None]  # something happened to a unit, in words


@dataclass
class Outcome:
    """What became of the units of one run, by name."""

    applied: list[str]
    failed: dict[str, str]
    waiting: list[str]
    alerts: dict[str, str]


class Exchange:
    """The kit's side for some units of one broker; `client` is a session of the kit there."""

    def __init__(
        self, ledger: Ledger, settings: Settings, client: KitClient, units: list[Unit], step: Step
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._client = client
        self._units = {unit.name: unit for unit in units}
        self._step = step
        self._alerts: dict[str, str] = {}
        self._wanted = ("", "")  # kind and detail of what this run is for
        client.subscribe("limpet/+/kit/ack")

    def recover(self) -> None:
        """See to what an earlier run has left: nothing is in DRAWN or SENDING afterwards."""
        rows = [change for change in self._open() if change.state in OPEN]
        boxes = self._retained_boxes() if rows else {}
        for change in rows:
            unit = self._unit(change)
            if change.state == DRAWN:  # its secret was lost with the process
                self._ledger.move(change, VOID)
            elif boxes.get(unit.name) == change.sequence:
                if change.state == SENDING:
                    self._ledger.move(change, SENT)
            else:  # sent or not, nobody will bring it: its account stays until a later one works
                self._ledger.move(change, ABANDONED)

    def clear_way(self, kind: str, detail: str, wait_s: float) -> None:
        """Let changes that are something else than this run's end first: one at a time a unit."""
        self._wanted = (kind, detail)
        if any(not self._is_wanted(change) for change in self._open()):
            self.finish(wait_s)

    def begin(self, kind: str, make: Callable[[Unit], Fields], detail: str = "") -> None:
        """Draw and send one change for every unit that has none under way."""
        self._wanted = (kind, detail)
        busy = {change.vault for change in self._open() if change.state in OPEN}
        drawn: list[tuple[Unit, Change, Fields]] = []
        fresh: tuple[Secret, ...] = ()
        for unit in self._units.values():
            if unit.vault in busy:
                continue
            fields, account = make(unit), None
            if kind == ACCOUNT:
                credential = credentials.draw(self._settings)
                fields = list(credential.fields)
                account = credential.account, credential.verifier
                fresh += credential.fresh
                secret = canary.digests(unit.name, password=credential.secret)
                self._ledger.remember(unit.vault, secret)
            drawn.append((unit, self._ledger.draw(unit, kind, detail, account), fields))
        if not drawn:
            return
        if kind == ACCOUNT and not registry.sync(self._ledger, self._settings, fresh=fresh):
            raise KitError(
                f"The broker of {self._settings.folder} does not run, so nothing was sent. Start "
                f"it with: limpet broker run {self._settings.folder}",
                NO_BROKER,
            )
        for unit, change, fields in drawn:
            self._send(unit, change, fields)

    def _send(self, unit: Unit, change: Change, fields: Fields) -> None:
        operation = protocol.WIPE if change.kind == WIPE else protocol.CHANGE
        box = protocol.control_box(
            self._key(unit),
            bytes.fromhex(unit.vault),
            operation,
            change.sequence,
            protocol.encode(fields),
        )
        change = self._ledger.move(change, SENDING)
        self._client.publish(_set(unit), box, retain=True)
        self._ledger.move(change, SENT)
        self._step(unit, "sent")

    def finish(self, wait_s: float) -> Outcome:
        """Wait for the devices, at most `wait_s` seconds, and settle what they have answered."""
        end = time.monotonic() + wait_s
        while any(change.state == SENT for change in self._open()):
            left = end - time.monotonic()
            message = self._client.wait(lambda topic, _: topic.endswith("/kit/ack"), max(0, left))
            if message is None:
                break
            self._hear(*message)
        return self._settle()

    def _hear(self, topic: str, payload: bytes) -> None:
        unit = self._units.get(topic.split("/")[1])
        if unit is None:
            return
        ack = protocol.read_ack(self._key(unit), bytes.fromhex(unit.vault), payload)
        for change in self._ledger.changes(unit.vault):
            if ack is None or change.state != SENT or change.sequence != ack.sequence:
                continue
            # An answer to this change cannot be an old one, so its generation is that of now.
            before = ack.generation - (ack.state == protocol.APPLIED)
            if before < unit.generation:
                self._alerts[unit.name] = self._ledger.saw(unit, before).alert
            if ack.state in (protocol.APPLIED, protocol.WIPED):
                self._ledger.move(change, APPLIED, generation=ack.generation)
                self._step(unit, "applied")
            elif ack.state == protocol.REFUSED:
                self._ledger.move(change, FAILED_CHANGE, ack.cause)
                self._step(unit, f"failed: {words(ack.cause)}")
            elif ack.state == protocol.STALE:
                self._ledger.move(change, FAILED_CHANGE, _STALE)
                self._step(unit, f"failed: {words(_STALE)}")
            elif ack.state == protocol.PENDING:
                self._step(unit, "has it, and logs in with it")

    def _settle(self) -> Outcome:
        """Old accounts out of the broker, boxes cleared, a wiped unit out of the ledger."""
        outcome = Outcome([], {}, [], self._alerts)
        ended = []
        for change in self._open():
            unit = self._unit(change)
            if change.state == SENT:
                outcome.waiting.append(unit.name)
            elif change.state in (APPLIED, FAILED_CHANGE):
                ended.append((unit, change))
                if not self._is_wanted(change):
                    outcome.waiting.append(unit.name)  # its turn comes with the next run
                elif change.state == APPLIED:
                    outcome.applied.append(unit.name)
                else:
                    outcome.failed[unit.name] = words(change.cause)
            if change.state == APPLIED and change.kind == WIPE:
                self._ledger.retire(unit)
        if ended:
            registry.sync(self._ledger, self._settings)
        for unit, change in ended:
            self._client.publish(_set(unit), b"", retain=True)
            if change.state == APPLIED and change.kind == WIPE:
                for branch in ("state", "kit/ack"):
                    self._client.publish(f"limpet/{unit.name}/{branch}", b"", retain=True)
            self._ledger.settle_change(change)
        return outcome

    # -- inside

    def _is_wanted(self, change: Change) -> bool:
        return (change.kind, change.detail) == self._wanted

    def _open(self) -> list[Change]:
        """Changes of our units that somebody still has to see to."""
        ours = {unit.vault for unit in self._units.values()}
        return [
            change
            for change in self._ledger.changes()
            if change.vault in ours
            and not change.settled
            and change.state not in (VOID, ABANDONED)
        ]

    def _retained_boxes(self) -> dict[str, int]:
        """Sequence of the box that the broker keeps, by unit."""
        found: dict[str, int] = {}
        for topic, payload in self._client.retained("limpet/+/kit/set", RETAINED_S).items():
            unit = self._units.get(topic.split("/")[1])
            if unit:
                vault = bytes.fromhex(unit.vault)
                box = protocol.open_control(self._key(unit), vault, payload)
                found.update({unit.name: box[1]} if box else {})
        return found

    def _unit(self, change: Change) -> Unit:
        return next(unit for unit in self._units.values() if unit.vault == change.vault)

    def _key(self, unit: Unit) -> Secret:
        key = kitkey.of(unit.kit_key, unit.name)
        return protocol.control_key(key.secret, bytes.fromhex(unit.vault))


def words(cause: int) -> str:
    """A cause in words."""
    if cause == _STALE:
        return "it has taken a later change; is this an old copy of the ledger?"
    return protocol.CAUSES.get(cause, f"cause {cause}") or "no cause given"


def anchors_of(ledger: Ledger, unit: Unit) -> list[str]:
    """Digests (SHA-256, hex) of the anchors that a change gave a unit last, [] if none did."""
    found: list[str] = []
    for change in ledger.changes(unit.vault):
        if change.kind == ANCHORS and change.state == APPLIED:
            found = change.detail.split()
    return found


def _set(unit: Unit) -> str:
    return f"limpet/{unit.name}/kit/set"
