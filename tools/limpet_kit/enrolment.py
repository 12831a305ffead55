"""Enrolment by cable: from a board with the library to a unit that is online (PROTOCOLS.md 5).

E1 to E5 are `enroll`, E6 and E7 are `activate`, which leaves what the unit says over the link to
`arrival`. Each step may be cut, on either side; the same calls again go on from what the board
holds and what the ledger says.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from . import arrival, credentials, destination, kitkey, protocol, registry
from .arrival import ONLINE_S, Step
from .audit import canary
from .board import Board, Raised
from .broker import accounts, given, keyed
from .broker.client import KitClient
from .broker.settings import Settings
from .console import printable
from .errors import (
    ENROLLED,
    FAILED,
    NO_NETWORK,
    NO_SPACE,
    REFUSED,
    USAGE,
    KitError,
)
from .ledger import (
    ACTIVE,
    GONE,
    NEW,
    PROVED,
    REGISTERED,
    REVOKED,
    UNFINISHED,
    Ledger,
    NameTaken,
    Unit,
)
from .secret import Secret
from .wifi import Network

_PIECE = 256  # bytes of a record in one call
_MODULE = "limpet.enroll"

# Names of the steps, in order, as `Step` is called with; two more are in arrival.py.
HELLO, ALERT, RESUMED, DRAWN, SENT = "hello", "alert", "resumed", "drawn", "sent"
COMMITTED, RESET, PROOF, REGISTRATION = "committed", "reset", "proved", "registered"
STARTED = "started"

# What the board's own codes mean. Its words are not shown: it has seen secrets by then.
_CODES = {
    "NO_SPACE": ("has no room left for its credential; remove files from it", NO_SPACE),
    "NO_MEMORY": ("has too little memory free; reset it and try again", NO_SPACE),
    "BAD_FIELDS": ("does not take these fields; bring its library up to date", FAILED),
    "SOURCE": ("cannot keep its key in the way that was asked for", FAILED),
    "NOT_READ_BACK": ("wrote its credential and does not read it back: bad flash?", FAILED),
    "FLASH": ("cannot write to its flash", FAILED),
    "VAULT_NEWER": ("holds a record of a newer library; bring its library up to date", FAILED),
    "VAULT_SOURCE": ("holds a record of a key source that it does not accept", FAILED),
    "VAULT_CLOSED": ("cannot open the record that it holds", FAILED),
}


class Declined(KitError):
    """The board answered with an error: it has not stored what it was given."""


class NoLibrary(KitError):
    """The board runs MicroPython without Limpet's library."""


@dataclass(frozen=True)
class Slot:
    """A record that the board can open: its vault id in hex, its generation, its key source."""

    vault: str
    generation: int
    source: int


@dataclass(frozen=True)
class Hello:
    """What a board says of itself (E1). All of it is a claim."""

    library: str
    chip: str
    machine: str
    micropython: str
    sources: tuple[int, ...]
    slots: tuple[Slot, ...]
    scrub_due: bool  # what was replaced may still lie in its flash
    wifi: bool
    psk: bool


@dataclass(frozen=True)
class Plan:
    """What the person decided.

    `networks` is called only when the board needs some. `replace` is the name of the unit whose
    place the board takes. `force` takes a board over that another ledger enrolled, and begins a
    cut enrolment anew instead of going on. `wired` is a board that is given no Wi-Fi although it
    has it. A unit without a name is called `prefix` and the next number.
    """

    networks: Callable[[], list[Network]]
    name: str | None = None
    replace: str | None = None
    force: bool = False
    wired: bool = False
    prefix: str = "unit"


def look(board: Board) -> Hello:
    """E1: ask the board what it is and what it holds. Raises `NoLibrary`, or `KitError`."""
    try:
        answer = board.call(_MODULE, "hello")
    except Raised as e:
        if e.kind != "ImportError":
            raise
        raise NoLibrary(
            f"The board at {board.port} does not have Limpet's library. Install it, and enrol "
            f"the board, with: limpet up {board.port}"
        ) from None
    _check(board, answer)
    if answer.get("protocol") != 1:
        raise KitError(
            f"The library on the board at {board.port} speaks another protocol than this kit. "
            f"Bring it up to date with: limpet up {board.port}"
        )
    version, slots = _list(answer, "micropython"), _list(answer, "slots")
    return Hello(
        library=_text(answer, "limpet"),
        chip=_hex(answer, "chip", 1, 32),
        machine=_text(answer, "machine"),
        micropython=".".join(str(int(n)) for n in version[:3] if isinstance(n, int)),
        sources=tuple(n for n in _list(answer, "sources") if type(n) is int),
        slots=tuple(
            sorted(
                (_slot(s) for s in slots[:2]),
                key=lambda slot: slot.generation,
            )
        ),
        scrub_due=answer.get("scrub_due") is True,
        wifi=answer.get("wifi") is True,
        psk=answer.get("psk") is True,
    )


def held(ledger: Ledger, hello: Hello) -> Unit | None:
    """The ledger's unit whose newest record this board holds, None when there is none.

    The ledger remembers it when that record is older than one it knows: see `Unit.alert`.
    """
    for slot in reversed(hello.slots):
        unit = ledger.unit(slot.vault)
        if unit and unit.state != GONE:
            return ledger.saw(unit, slot.generation)
    return None


def enroll(board: Board, ledger: Ledger, settings: Settings, plan: Plan, step: Step) -> Unit:
    """E1 to E5: the board holds a credential of its own and the broker knows it.

    Goes on where an earlier enrolment was cut. Raises `KitError`: ENROLLED when the board or the
    name is taken, NO_NETWORK, NO_SPACE, REFUSED for a demo's CA on a real board, NO_BOARD when
    it stops answering.
    """
    hello = look(board)
    step(HELLO, f"{hello.machine or 'board'}, MicroPython {hello.micropython}")
    for cut in ledger.unfinished(hello.chip):
        if cut.vault not in {slot.vault for slot in hello.slots}:
            ledger.drop(cut)
    fields: bytes | None = None
    fresh: tuple[Secret, ...] = ()
    unit = held(ledger, hello)
    if unit and unit.alert:
        step(ALERT, unit.alert)
    if unit and _goes_on(unit, settings, plan) and not _has_lost_key(ledger, settings, unit):
        step(RESUMED, f"going on with {unit.name}, which was cut")
    else:
        if unit is None and hello.slots and not plan.force and not _was_ours(ledger, hello):
            raise KitError(
                f"The board at {board.port} is enrolled, but not in this ledger. To take it over, "
                "and lose what it was: --force",
                ENROLLED,
            )
        unit, fields, fresh = _new(board, ledger, settings, plan, hello, unit, step)
    if unit.state == NEW:
        unit = _prove(board, ledger, unit, fields, step)
    if unit.state == PROVED:
        taken = registry.sync(ledger, settings, fresh=fresh)
        unit = ledger.advance(unit, REGISTERED)
        step(
            REGISTRATION,
            "the broker knows its account"
            if taken
            else "the broker will know its account when it is started",
        )
    return unit


def activate(
    board: Board,
    ledger: Ledger,
    settings: Settings,
    unit: Unit,
    step: Step,
    wait_s: float = ONLINE_S,
    unless: Callable[[], bool] | None = None,
) -> Unit:
    """E6 and E7: start the board's program and wait until it has logged in with its record.

    The board is not at its prompt afterwards. Raises `KitError`: NOT_ONLINE after `wait_s`
    seconds or as soon as `unless()` holds, NO_BROKER when the broker does not run.
    """
    if not {"main.py", "main.mpy"} & set(board.names("/")):
        raise KitError(
            f"There is no program on the board at {board.port} that could log in. Put one there "
            f"with: limpet up {board.port}"
        )
    with KitClient(settings) as client:
        client.subscribe(f"limpet/{unit.name}/kit/ack")
        if unit.replaces:
            client.publish(f"limpet/{unit.name}/kit/set", b"", retain=True)
        start(board)
        step(STARTED, "its program runs")
        return arrival.wait(client, ledger, settings, unit, step, wait_s, unless)


def start(board: Board) -> None:
    """Start the board's program, which logs in at once: also where it was refused before.

    A board that was cut between its record and the broker's export may have been.
    """
    _check(board, board.call(_MODULE, "retry"))
    board.soft_reset(run_main=True)


def _new(
    board: Board,
    ledger: Ledger,
    settings: Settings,
    plan: Plan,
    hello: Hello,
    before: Unit | None,
    step: Step,
) -> tuple[Unit, bytes, tuple[Secret, ...]]:
    """`_write`, again while another kit draws the same number for a name."""
    for left in range(9, -1, -1):
        try:
            return _write(board, ledger, settings, plan, hello, before, step)
        except NameTaken:
            if plan.name or plan.replace or not left:
                raise
    raise AssertionError("the last try returns or raises")


def _write(
    board: Board,
    ledger: Ledger,
    settings: Settings,
    plan: Plan,
    hello: Hello,
    before: Unit | None,
    step: Step,
) -> tuple[Unit, bytes, tuple[Secret, ...]]:
    """E2 and E3: draw, put into the ledger, send, have it sealed.

    The unit, its fields, and a shared key that the broker has yet to be given.

    `before` is what the board was, when that is to be replaced or begun anew.
    """
    vault, store_secret = secrets.token_bytes(16), Secret(secrets.token_bytes(32))
    where = destination.fields(settings, vault, board.simulated)
    anew = before if before and before.state in UNFINISHED else None
    replaces = anew.replaces if anew else _replaced(ledger, plan)
    name = plan.name or plan.replace or (anew.name if anew else _draw_name(ledger, plan.prefix))
    accounts.device_acl(name)  # refuses what cannot be a name
    networks = [] if plan.wired or not hello.wifi else plan.networks()
    if hello.wifi and not plan.wired and not networks:
        raise KitError(
            "This board needs a Wi-Fi network and none was given: --wifi FILE, LIMPET_WIFI, or "
            "type it when asked. For a board on a cable: --no-wifi",
            NO_NETWORK,
        )
    if protocol.SOFT not in hello.sources:
        raise KitError(f"The board at {board.port} offers no key source that this kit knows.")
    if settings.profile == "psk" and not hello.psk:
        raise KitError(
            f"The board at {board.port} runs MicroPython {hello.micropython}, which has no TLS "
            "with a shared key: profile psk needs 1.29 or later. Flash a newer one (limpet "
            "flash), or make a broker with another profile.",
        )
    key = kitkey.load(make=not ledger.units(gone=True))
    credential = credentials.draw(settings)
    control = protocol.control_key(key.secret, vault)
    fields = protocol.encode(
        [
            (protocol.NAME, name.encode()),
            (protocol.PROFILE, bytes([protocol.PROFILES[settings.profile]])),
            *credential.fields,
            (protocol.CONTROL, control.reveal()),
            *where,
            *((protocol.NETWORK, protocol.network(n.ssid, n.key)) for n in networks),
            (protocol.EARLIEST, int(time.time()).to_bytes(8, "big")),
        ]
    )
    now = int(time.time())
    unit = Unit(
        vault=vault.hex(),
        name=name,
        state=NEW,
        broker=settings.kit,
        kit_key=key.id,
        profile=settings.profile,
        source=protocol.SOFT,
        generation=0,
        chip=hello.chip,
        machine=hello.machine,
        micropython=hello.micropython,
        library=hello.library,
        replaces=replaces,
        created=now,
        changed=now,
    )
    ledger.know_broker(settings.kit, settings.folder, settings.server)
    if anew:
        ledger.retire(anew)
    try:
        ledger.add(unit, credential.account, credential.verifier)
    except KitError:
        if settings.given:  # no board has seen it
            given.put_back(settings, credential.account, credential.secret)
        raise
    drawn = canary.digests(name, password=credential.secret, control=control)
    ledger.remember(unit.vault, drawn)
    step(DRAWN, f"{name} has an account of its own")
    try:
        _send(board, vault + store_secret.reveal() + fields)
        step(SENT, f"{len(fields)} bytes are in its memory")
        _check(board, board.call(_MODULE, "commit", protocol.SOFT, timeout_s=30))
    except Declined:
        ledger.drop(unit)
        raise
    step(COMMITTED, "it has sealed them in its flash")
    return unit, fields, credential.fresh


def _has_lost_key(ledger: Ledger, settings: Settings, unit: Unit) -> bool:
    """Whether a cut enrolment's shared key is nowhere: neither file nor ledger keeps it before the
    broker has been told."""
    if unit.profile != "psk" or unit.state not in (NEW, PROVED):
        return False
    return ledger.account(unit.vault) not in keyed.read(settings.folder)


def _send(board: Board, record: bytes) -> None:
    """E3: into the board's memory, piece by piece."""
    _check(board, board.call(_MODULE, "begin", len(record)))
    for at in range(0, len(record), _PIECE):
        piece = base64.b64encode(record[at : at + _PIECE]).decode()
        _check(board, board.call(_MODULE, "put", at, piece))


def _prove(board: Board, ledger: Ledger, unit: Unit, fields: bytes | None, step: Step) -> Unit:
    """E4: after a reset the board shows that it can read back what it was given."""
    board.hard_reset()
    step(RESET, "it was reset")
    vault, nonce = bytes.fromhex(unit.vault), secrets.token_bytes(32)
    key = kitkey.control_key(unit)
    answer = board.call(_MODULE, "proof", nonce.hex())
    _check(board, answer)
    generation = _number(answer, "generation")
    h, p = (bytes.fromhex(_hex(answer, part, 32, 32)) for part in "hp")
    proved = (
        _hex(answer, "vault", 16, 16) == unit.vault
        and 0 < generation < 1 << 32
        and protocol.proof_fits(key, nonce, vault, generation, h, p)
        and (fields is None or protocol.fields_fit(key, vault, fields, h))
    )
    if not proved:
        ledger.drop(unit)
        raise KitError(
            f"The board at {board.port} does not hold what it was given; its account was thrown "
            "away, no broker has seen it. Enrol it again, with --force."
        )
    unit = ledger.advance(unit, PROVED, generation)
    step(PROOF, "it has proved that it reads them back")
    return unit


def _goes_on(unit: Unit, settings: Settings, plan: Plan) -> bool:
    """Whether to go on with what this board carries; False to write a new record over it."""
    if unit.state == ACTIVE and not unit.replaces:
        if plan.replace == unit.name:
            return False
        raise KitError(
            f"This board is enrolled already: it is {unit.name}. For a new credential: "
            f"--replace {unit.name}",
            ENROLLED,
        )
    if unit.state == REVOKED:
        if plan.replace == unit.name:
            return False
        raise KitError(
            f"This board is {unit.name}, which is revoked. To let it in again: limpet revoke "
            f"{unit.name} --undo. For a new credential: --replace {unit.name}",
            REFUSED,
        )
    if plan.force and unit.state != ACTIVE:
        return False
    if plan.name and plan.name != unit.name:
        raise KitError(
            f"This board's enrolment as {unit.name} was cut. Finish it without --name, or begin "
            "anew with --force.",
            ENROLLED,
        )
    if unit.broker != settings.kit:
        raise KitError(
            f"This board's enrolment as {unit.name} was cut, and was for another broker. Name "
            "that one's folder with --broker, or begin anew with --force.",
            ENROLLED,
        )
    return True


def _was_ours(ledger: Ledger, hello: Hello) -> bool:
    """Whether all that this board holds is of units that were replaced."""
    return all(ledger.unit(slot.vault) for slot in hello.slots)


def _replaced(ledger: Ledger, plan: Plan) -> str | None:
    """Vault id of the unit whose place is to be taken."""
    if plan.replace is None:
        return None
    old = ledger.named(plan.replace)
    if old is None:
        raise KitError(f"There is no unit {plan.replace} that could be replaced.", USAGE)
    if old.state == NEW:
        raise KitError(
            f"The enrolment of {plan.replace} was cut before it had an account. Give it up with: "
            f"limpet ledger drop {plan.replace}",
            ENROLLED,
        )
    return old.vault


def _draw_name(ledger: Ledger, prefix: str) -> str:
    """`unit-1`, or the next number that was never used."""
    pattern = re.compile(re.escape(prefix) + r"-(\d{1,9})")
    used = [pattern.fullmatch(unit.name) for unit in ledger.units(gone=True)]
    return f"{prefix}-{1 + max((int(match[1]) for match in used if match), default=0)}"


# -- what a board answers: claims, read strictly


def _check(board: Board, answer: dict[str, Any]) -> None:
    code = answer.get("error")
    if code is not None:
        words, exit_code = _CODES.get(str(code), ("refuses; bring its library up to date", FAILED))
        raise Declined(f"The board at {board.port} {words}.", exit_code)


def _slot(answer: Any) -> Slot:
    vault = _hex(answer, "vault", 16, 16)
    return Slot(vault, _number(answer, "generation"), _number(answer, "source"))


def _text(answer: dict[str, Any], key: str) -> str:
    value = answer.get(key)
    return printable(value, 80) if isinstance(value, str) else _odd(key)


def _number(answer: Any, key: str) -> int:
    value = answer.get(key) if isinstance(answer, dict) else None
    return value if type(value) is int and 0 <= value < 1 << 40 else _odd(key)


def _hex(answer: Any, key: str, least: int, most: int) -> str:
    value = answer.get(key) if isinstance(answer, dict) else None
    if isinstance(value, str) and re.fullmatch(f"([0-9a-f]{{2}}){{{least},{most}}}", value):
        return value
    return _odd(key)


def _list(answer: dict[str, Any], key: str) -> list[Any]:
    value = answer.get(key)
    return value if isinstance(value, list) else _odd(key)


def _odd(key: str) -> NoReturn:
    raise KitError(f"The board does not answer as Limpet does: its {key!r} is out of form.")
