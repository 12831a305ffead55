"""Changes over the link: accounts, anchors, servers, networks, moving, wiping. PROTOCOLS.md 6.

One exchange for all. A sealed box is retained on `limpet/<device>/kit/set`; the device tries it,
keeps or drops it, and says so with a tag that only it can make. An account is removed for such an
acknowledgement alone, never for a time-out. Whatever is cut here is finished by the next run.

A move to another broker is one such change. It brings servers, anchor and account together; the
device says that it worked at the new broker, and that it did not at the old one. So a box lies,
and an answer is listened for, wherever the unit has an account.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from . import credentials, kitkey, protocol, registry
from .audit import canary
from .broker import settings
from .broker.client import LOOK_S, KitClient
from .broker.settings import Settings
from .errors import NO_BROKER, NO_SPACE, KitError
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
    Login,
    Unit,
)
from .secret import Secret

ACCOUNT, ANCHORS, SERVERS, NETWORKS, WIPE = "account", "anchors", "servers", "networks", "wipe"
MOVE = "move"  # its detail: the ids of the old broker and of the new one
RETAINED_S = 5.0  # for what the broker has retained to arrive
_ACKS = "limpet/+/kit/ack"
_NO_BOX = 0, b""
_STALE = 255  # cause of a change that the device takes for an old one

# Something happened to a unit, in words, and whether it is done with its change.
Step = Callable[[Unit, str, bool], None]


@dataclass
class Outcome:
    """What became of the units of one run, by name."""

    applied: list[str]
    failed: dict[str, str]
    waiting: list[str]
    alerts: dict[str, str]


class Place(NamedTuple):
    """A broker, and a session of the kit there."""

    settings: Settings
    client: KitClient


def brokers_of(ledger: Ledger, unit: Unit) -> set[str]:
    """Ids of the brokers where a unit may log in or has left something: one, but for a move."""
    moves = [c for c in ledger.changes(unit.vault) if c.kind == MOVE and _is_unsettled(c)]
    between = {id for move in moves for id in move.detail.split()}
    return {unit.broker, *ledger.brokers(unit.vault), *between}


@contextmanager
def places(ledger: Ledger, units: list[Unit], *known: Settings) -> Iterator[dict[str, Place]]:
    """The brokers of these units and the `known` ones, by id, with a session at each.

    Raises `KitError` (NO_BROKER) when one of them cannot be reached.
    """
    found = {chosen.kit: chosen for chosen in known}
    for id in {id for unit in units for id in brokers_of(ledger, unit)} - set(found):
        found[id] = settings.load(ledger.broker_folder(id))
    with ExitStack() as stack:
        yield {
            id: Place(chosen, stack.enter_context(KitClient(chosen)))
            for id, chosen in found.items()
        }


class Exchange:
    """The kit's side for some units; `places` are those of their brokers, `receive` the bytes of
    a packet that each of them takes."""

    def __init__(
        self,
        ledger: Ledger,
        places: dict[str, Place],
        units: list[Unit],
        step: Step,
        receive: int = protocol.RECEIVE,
    ) -> None:
        self._ledger = ledger
        self._places = places
        self._vaults = {unit.name: unit.vault for unit in units}
        self._step = step
        self._receive = receive
        self._alerts: dict[str, str] = {}
        self._held: list[str] = []  # units that have something else to finish first
        self._wanted = ("", "")  # kind and detail of what this run is for
        for place in places.values():
            place.client.subscribe(_ACKS)

    def recover(self) -> None:
        """See to what an earlier run has left: nothing is in DRAWN or SENDING afterwards."""
        rows = [change for change in self._open() if change.state in OPEN]
        boxes = {id: self._retained_boxes(place) for id, place in self._places.items() if rows}
        for change in rows:
            unit = self._unit(change.vault)
            if change.state == DRAWN:  # its secret was lost with the process
                self._ledger.move(change, VOID)
                continue
            where = self._where(unit)
            if all(boxes[id].get(unit.name, _NO_BOX)[0] == change.sequence for id in where):
                for id in where:  # anew: a machine that was away when it was sent lacks it
                    box = boxes[id][unit.name][1]
                    self._places[id].client.publish(_set(unit), box, retain=True)
                if change.state == SENDING:
                    self._ledger.move(change, SENT)
            else:  # sent or not, nobody will bring it: its account stays until a later one works
                self._ledger.move(change, ABANDONED)

    def clear_way(self, kind: str, detail: str, wait_s: float) -> None:
        """Let changes that are something else than this run's end first: one at a time a unit."""
        self._wanted = (kind, detail)
        if any(not self._is_wanted(change) for change in self._open()):
            self.finish(wait_s)

    def begin(self, kind: str, make: Callable[[Unit], protocol.Fields], detail: str = "") -> None:
        """Draw and send one change for every unit that has none under way.

        Raises `KitError`: NO_SPACE before anything is sent when it is too large for them,
        NO_BROKER when their broker does not run.
        """
        self._wanted = (kind, detail)
        under_way = {change.vault: change for change in self._open() if change.state in OPEN}
        drawn: list[tuple[Unit, Change, protocol.Fields]] = []
        fresh: dict[str, list[Secret]] = defaultdict(list)  # at a broker where accounts were drawn
        for vault in self._vaults.values():
            unit, other = self._unit(vault), under_way.get(vault)
            if other and not self._is_wanted(other):
                self._step(unit, f"has a change under way ({other.kind}): that one first", True)
            if other or self._is_held(unit, kind, detail):
                continue
            fields, login = make(unit), None
            if kind in (ACCOUNT, MOVE):
                at = self._places[detail.split()[1] if kind == MOVE else unit.broker].settings
                credential = credentials.draw(at)
                fields = [*fields, *credential.fields]
                login = Login(credential.account, credential.verifier, at.kit, at.profile)
                fresh[at.kit] += credential.fresh
                secret = canary.digests(unit.name, password=credential.secret)
                self._ledger.remember(unit.vault, secret)
            self._check_size(unit, fields)
            drawn.append((unit, self._ledger.draw(unit, kind, detail, login), fields))
        for id, keys in fresh.items():
            at = self._places[id].settings
            if not registry.sync(self._ledger, at, fresh=keys):
                raise KitError(
                    f"The broker of {at.folder} does not run, so nothing was sent. Start it with: "
                    f"limpet broker run {at.folder}",
                    NO_BROKER,
                )
            self._places[id].client.subscribe(_ACKS)  # it has come to know devices (retained.py)
        for unit, change, fields in drawn:
            self._send(unit, change, fields)

    def _check_size(self, unit: Unit, fields: protocol.Fields) -> None:
        """A device ends the connection that brings it more than it takes, and each one after."""
        size = protocol.change_size(_set(unit), protocol.encode(fields))
        if size > self._receive:
            raise KitError(
                f"{unit.name} would get a packet of {size} bytes, and takes {self._receive}. "
                "Bring fewer or smaller anchors (EC P-256), or have its sketch take more: "
                "Client(receive=4096), then here --receive 4096. Nothing was sent.",
                NO_SPACE,
            )

    def _is_held(self, unit: Unit, kind: str, detail: str) -> bool:
        """Whether this unit has to end a move first, as it is not known where it is."""
        if kind == MOVE:
            return unit.broker != detail.split()[0]  # it is there already
        if kind == WIPE or len(self._where(unit)) == 1:
            return False
        self._held.append(unit.name)
        self._step(unit, "has begun to move; run that limpet broker move again first", True)
        return True

    def _send(self, unit: Unit, change: Change, fields: protocol.Fields) -> None:
        operation = protocol.WIPE if change.kind == WIPE else protocol.CHANGE
        box = protocol.control_box(
            kitkey.control_key(unit),
            bytes.fromhex(unit.vault),
            operation,
            change.sequence,
            protocol.encode(fields),
        )
        change = self._ledger.move(change, SENDING)
        # Its own broker last: once it can have the box, the kit knows it as sent everywhere.
        for id in sorted(self._where(unit), key=lambda id: id == unit.broker):
            self._places[id].client.publish(_set(unit), box, retain=True)
        self._ledger.move(change, SENT)
        self._step(unit, "sent", False)

    def finish(self, wait_s: float) -> Outcome:
        """Wait for the devices, at most `wait_s` seconds, and settle what they have answered."""
        end = time.monotonic() + wait_s
        while any(change.state == SENT for change in self._open()):
            left = end - time.monotonic()
            for place in self._places.values():
                for message in _answers(place.client, min(max(0.0, left), LOOK_S)):
                    self._hear(*message)
            if left <= 0:
                break
        return self._settle()

    def _hear(self, topic: str, payload: bytes) -> None:
        name = topic.split("/")[1]
        if name not in self._vaults:
            return
        unit = self._unit(self._vaults[name])
        ack = protocol.read_ack(kitkey.control_key(unit), bytes.fromhex(unit.vault), payload)
        for change in self._ledger.changes(unit.vault):
            if ack is None or change.state != SENT or change.sequence != ack.sequence:
                continue
            # An answer to this change cannot be an old one, so its generation is that of now.
            before = ack.generation - (ack.state == protocol.APPLIED)
            if before < unit.generation:
                self._alerts[unit.name] = self._ledger.saw(unit, before).alert
            if ack.state in (protocol.APPLIED, protocol.WIPED):
                self._ledger.move(change, APPLIED, generation=ack.generation)
                self._step(unit, "applied", True)
            elif ack.state == protocol.REFUSED:
                self._ledger.move(change, FAILED_CHANGE, ack.cause)
                self._step(unit, f"failed: {words(ack.cause)}", True)
            elif ack.state == protocol.STALE:
                self._ledger.move(change, FAILED_CHANGE, _STALE)
                self._step(unit, f"failed: {words(_STALE)}", True)
            elif ack.state == protocol.PENDING:
                self._step(unit, "has it, and logs in with it", False)

    def _settle(self) -> Outcome:
        """Old accounts out of the broker, boxes cleared, a wiped unit out of the ledger."""
        outcome = Outcome([], {}, [*self._held], self._alerts)
        ended: list[tuple[Unit, Change, set[str]]] = []
        for change in self._open():
            unit = self._unit(change.vault)
            if change.state == SENT:
                outcome.waiting.append(unit.name)
            elif change.state in (APPLIED, FAILED_CHANGE):
                ended.append((unit, change, self._where(unit)))
                if not self._is_wanted(change):
                    outcome.waiting.append(unit.name)  # its turn comes with the next run
                elif change.state == APPLIED:
                    outcome.applied.append(unit.name)
                else:
                    outcome.failed[unit.name] = words(change.cause)
            if change.state == APPLIED and change.kind == WIPE:
                self._ledger.retire(unit)
        for id in {id for *_, where in ended for id in where}:
            registry.sync(self._ledger, self._places[id].settings)
        for unit, change, where in ended:
            for id in where:
                client = self._places[id].client
                client.publish(_set(unit), b"", retain=True)
                if change.state == APPLIED and change.kind == WIPE:
                    client.clear(unit.name, RETAINED_S)
            self._ledger.settle_change(change)
        return outcome

    # -- inside

    def _is_wanted(self, change: Change) -> bool:
        return (change.kind, change.detail) == self._wanted

    def _open(self) -> list[Change]:
        """Changes of our units that somebody still has to see to."""
        ours = set(self._vaults.values())
        return [c for c in self._ledger.changes() if c.vault in ours and _is_unsettled(c)]

    def _where(self, unit: Unit) -> set[str]:
        return brokers_of(self._ledger, unit)

    def _retained_boxes(self, place: Place) -> dict[str, tuple[int, bytes]]:
        """The box that the broker keeps and its sequence, by unit."""
        found: dict[str, tuple[int, bytes]] = {}
        for topic, payload in place.client.retained("limpet/+/kit/set", RETAINED_S).items():
            name = topic.split("/")[1]
            if name in self._vaults:
                unit = self._unit(self._vaults[name])
                vault = bytes.fromhex(unit.vault)
                box = protocol.open_control(kitkey.control_key(unit), vault, payload)
                found.update({unit.name: (box[1], payload)} if box else {})
        return found

    def _unit(self, vault: str) -> Unit:
        """A unit as it is now: a move changes its broker."""
        unit = self._ledger.unit(vault)
        assert unit is not None, "units that were online are never deleted"
        return unit


def words(cause: int) -> str:
    """A cause in words."""
    if cause == _STALE:
        return "it has taken a later change; is this an old copy of the ledger?"
    return protocol.CAUSES.get(cause, f"cause {cause}") or "no cause given"


def anchors_of(ledger: Ledger, unit: Unit) -> list[str]:
    """Digests (SHA-256, hex) of the anchors that a change gave a unit last, [] if none did."""
    found: list[str] = []
    for change in ledger.changes(unit.vault):
        if change.kind in (ANCHORS, MOVE) and change.state == APPLIED:
            found = change.detail.split() if change.kind == ANCHORS else []
    return found


def _answers(client: KitClient, wait_s: float) -> Iterator[tuple[str, bytes]]:
    """What devices say at one broker; waits `wait_s` seconds for the first."""
    while message := client.wait(lambda topic, _: topic.endswith("/kit/ack"), wait_s):
        yield message
        wait_s = 0.0


def _is_unsettled(change: Change) -> bool:
    return not change.settled and change.state not in (VOID, ABANDONED)


def _set(unit: Unit) -> str:
    return f"limpet/{unit.name}/kit/set"
