"""What is plugged into this machine: `boards` looks at ports and drives, `ask` asks one board."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serial.tools import list_ports

from . import blank, enrolment, flash, ports, sim
from . import boards as definitions
from .board import Board, NoMicroPython
from .console import printable
from .enrolment import Hello
from .errors import KitError
from .ledger import Ledger, Unit


@dataclass(frozen=True)
class Plugged:
    """Something that may be a board, without having asked it.

    `port` is what the kit's commands take, empty for the drive of an RP2 in its boot mode; `usb`
    vendor:product; `what` words; `fits` names of the definitions that its USB id fits; `why_not`
    why it cannot be talked to; `unit` the name of the unit that its number is in the ledger as: a
    claim of the board, good for showing and for nothing else.
    """

    port: str
    usb: str
    what: str
    fits: tuple[str, ...] = ()
    why_not: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Answer:
    """What a board said when it was asked; empty where it was not to be had.

    `boot` is `MicroPython` or `boot ROM`; `hello` is None without Limpet's library.
    """

    port: str
    boot: str
    version: str = ""
    machine: str = ""
    chip: str = ""
    flash: int = 0
    fits: tuple[str, ...] = ()
    hello: Hello | None = None
    unit: Unit | None = None


def boards(units: list[Unit]) -> list[Plugged]:
    """Ports with something that may be a board, drives of boot ROMs, simulated boards.

    No port is opened.
    """
    chips = {unit.chip: unit.name for unit in units}
    found = [_at(port, chips) for port in sorted(list_ports.comports()) if port.vid is not None]
    for place, kind in flash.drives():
        fits = tuple(b.name for b in definitions.booting(drive=kind))
        what = f"a board in its boot mode, drive {printable(str(place), 80)}"
        found.append(Plugged("", "", what, fits))
    for board in sim.all():
        known = json.loads((board.folder / "board.json").read_text())
        running = board.running
        why = "" if running else f"limpet sim start {board.name}"
        if running and (by := ports.holder(str(board.device))):
            why = f"in use by {by}"
        state = "running" if running else "switched off"
        what = f"simulated {board.board}, {state}"
        name = chips.get(known["unique_id"], "")
        found.append(Plugged(ports.SIM + board.name, "", what, (board.board,), why, name))
    return found


def _at(port: Any, chips: dict[str, str]) -> Plugged:
    usb = ports.usb_id(port)
    fits = tuple(b.name for b in definitions.with_usb(usb))
    what = printable(port.description or "serial port", 60)
    why = ""
    if by := ports.holder(port.device):
        why = f"in use by {by}"
    elif not os.access(port.device, os.R_OK | os.W_OK):
        why = str(ports.why_not(port.device, port.device))
    number = (port.serial_number or "").replace(":", "").lower()
    return Plugged(port.device, usb, what, fits, why, chips.get(number, ""))


def ask(ledger: Ledger, port: str) -> Answer:
    """Ask the board at a port; its program is stopped for that, and starts anew.

    Where no MicroPython answers, an ESP32's boot ROM is asked, which resets the board. Raises
    `KitError` (NO_BOARD) when neither answers.
    """
    try:
        with Board(port) as board:
            said = blank.about(board)
            try:
                hello = enrolment.look(board)
            except KitError:
                hello = None  # no library, or one of another age
            unit = enrolment.held(ledger, hello) if hello else None
            board.soft_reset(run_main=True)
        fits = tuple(
            b.name for b in definitions.everyone() if b.machine.startswith(said.machine.strip())
        )
        return Answer(
            port, "MicroPython", said.version, said.machine, fits=fits, hello=hello, unit=unit
        )
    except NoMicroPython as e:
        device = ports.resolve(port)
        if Path(device).exists() and not ports.simulated(device):
            try:
                chip = flash.look(device, reset=True)
            except KitError:
                raise e from None
            fits = tuple(b.name for b in definitions.booting(chip=chip.kind))
            return Answer(port, "boot ROM", chip=chip.kind, flash=chip.flash, fits=fits)
        raise
