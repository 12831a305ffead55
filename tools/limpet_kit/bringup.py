"""The main job: from a board at a port to a unit that is online at its broker.

`broker` gets a broker ready, `simulated` a simulated board, `bring_up` does the rest: library,
enrolment, application, start. Each tells a `Step` callback what it has done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from . import arrival, blank, enrolment, install, ports, sim
from .arrival import ONLINE_S, Step
from .blank import Wish
from .board import Board, NoMicroPython, going_on
from .broker import server, settings
from .broker.settings import Settings
from .console import Console, printable
from .enrolment import Plan
from .errors import ENROLLED, NOT_ONLINE, USAGE, KitError
from .ledger import ACTIVE, Ledger, Unit
from .seriallog import SerialLog
from .watch import Watch

FIRST_SIM = "sim:sim-1"
READING_S = 10.0  # for the first reading of a board that is online


@dataclass(frozen=True)
class Goods:
    """What is put on a board beside the library, and how.

    `sketch` becomes its main.py; without one it is ours, which takes the place of a foreign one
    only with `replace_main`. `ampy`: files go by that program.
    """

    sketch: Path | None = None
    replace_main: bool = False
    ampy: bool = False


@dataclass(frozen=True)
class Done:
    """What was done: the unit, library files written, and whether they had been changed on the
    board, whether it was enrolled now, our main.py or the board's own, seconds from the start of
    the program to its first word at the broker, the port, and whether MicroPython was written."""

    unit: Unit
    files: int
    tampered: bool
    enrolled: bool
    our_main: bool
    online_s: float
    port: str
    flashed: bool


def broker(folder: Path, for_simulated: bool, step: Step) -> Settings:
    """The broker of a folder, running.

    A missing one is made only where nothing has to be decided: for a simulated board, on this
    machine alone. Raises `KitError` (NO_BROKER) otherwise.
    """
    try:
        chosen = settings.load(folder)
    except KitError:
        if not for_simulated or folder.exists():
            raise
        port = server.free_port(settings.PORT)
        chosen = settings.create(folder, list(settings.LOOPBACK), port)
        step("broker", f"made one for this machine only in {folder}")
    running = server.open_broker(chosen)
    if not running.running():
        running.start()
        if chosen.given:
            return chosen
        step(
            "broker", f"started {chosen.kind} on {chosen.server}; end it with: limpet broker stop"
        )
    return chosen


def simulated(port: str, step: Step) -> str:
    """Start the simulated board that `port` names (`sim`, `sim:NAME`); the port to talk to."""
    port = FIRST_SIM if port == "sim" else port
    if port.startswith(ports.SIM):
        name = port.removeprefix(ports.SIM)
        known = sim.find(name)
        if not known or not known.running:
            board = sim.start(name)
            step("board", f"simulated board {name} started, a {board.board}")
    return port


def find() -> str | None:
    """The port of the only board that is plugged in; None when none is, as in an RP2's boot mode.

    Raises `KitError` (USAGE) when there is more than one to choose from.
    """
    found = ports.of_boards()
    if len(found) > 1:
        raise KitError(f"Several boards are plugged in; name one: {', '.join(found)}.", USAGE)
    return found[0] if found else None


def bring_up(
    port: str | None,
    chosen: Settings,
    plan: Plan,
    console: Console,
    step: Step,
    arrived: Callable[[str, bytes], None] = lambda topic, payload: None,
    goods: Goods = Goods(),
    wait_s: float = ONLINE_S,
    reading_s: float = READING_S,
    wish: Wish | None = None,
) -> Done:
    """MicroPython where there is none, library, enrolment unless the board has it, application,
    start; until it is online.

    What it publishes, up to its first reading, is handed to `arrived`: topic below its branch,
    payload. Without a `wish` a board without MicroPython is an error. Raises `KitError` as
    `blank.fill`, `enrolment.enroll` and `enrolment.activate` do, and NOT_ONLINE when its program
    ends with an exception.
    """
    with Ledger() as ledger, ExitStack() as opened:
        board, flashed = _at_prompt(opened, port, wish, console, step)
        opened.enter_context(going_on(board))
        here = blank.check(board, wish.board if wish else None)
        if wish and wish.firmware and not flashed:
            step("prompt", f"MicroPython {here.version} is there already: nothing was flashed")
        board.calm(install.harmless())
        send = install.ampy(board) if goods.ampy else None
        with console.progress("library") as progress:
            files = install.library(board, progress, send)
        if files:
            board.hard_reset()  # forgets what was imported of an older one
        hello = enrolment.look(board)
        unit = enrolment.held(ledger, hello)
        tampered = bool(files and unit and unit.digest == install.digest())
        _tell_files(files, tampered, step)
        known = unit is not None and unit.state == ACTIVE and not unit.replaces
        if unit is None or not known or plan.replace:
            known = False
            unit = enrolment.enroll(board, ledger, chosen, plan, step)
        elif plan.name and plan.name != unit.name:
            raise KitError(
                f"This board is enrolled already, as {unit.name}. For another name: "
                f"--replace {unit.name} --name {plan.name}",
                ENROLLED,
            )
        elif unit.broker != chosen.kit:
            raise KitError(
                f"This board is {unit.name} of another broker than the one in {chosen.folder}. "
                "Name its own with --broker, or enrol it anew with --replace.",
                ENROLLED,
            )
        if known and unit.alert:
            step(enrolment.ALERT, unit.alert)
        unit = ledger.note_software(unit, hello.micropython, hello.library, install.digest())
        ours = install.application(board, goods.sketch, goods.replace_main, send)
        step("application", "main.py is in place" if ours else "the board's own main.py stays")
        with Watch(chosen, unit.name) as watch, ExitStack() as stack:
            logs: list[SerialLog] = []
            began = time.monotonic()

            def listening(name: str, words: str) -> None:
                step(name, words)
                if name == enrolment.STARTED:
                    logs.append(stack.enter_context(SerialLog(board.device)))

            def crashed() -> bool:
                return any(log.crash for log in logs)

            try:
                if known:
                    enrolment.start(board)
                    listening(enrolment.STARTED, "its program runs")
                else:
                    unit = enrolment.activate(
                        board, ledger, chosen, unit, listening, wait_s, crashed
                    )
                if not watch.online(wait_s, crashed):
                    raise KitError(f"{unit.name} did not come online.", NOT_ONLINE)
            except KitError as e:
                raise _explained(e, unit, logs) from None
            online_s = time.monotonic() - began
            if known:
                step(arrival.ONLINE, f"{unit.name} is online")
            step("first word", f"after {online_s:.1f} s")
            _show(watch, arrived, reading_s, crashed)
            if crashed():
                raise _explained(KitError("", NOT_ONLINE), unit, logs)
        return Done(unit, len(files), tampered, not known, ours, online_s, board.port, flashed)


def _tell_files(files: list[str], tampered: bool, step: Step) -> None:
    if tampered:
        names = ", ".join(files[:3]) + (" ..." if len(files) > 3 else "")
        step(
            "library",
            f"{len(files)} files were changed on the board since the kit wrote them, and are "
            f"written anew: {printable(names)}",
        )
    else:
        words = f"{len(files)} files written, and read back" if files else "up to date"
        step("library", words)


def _explained(error: KitError, unit: Unit, logs: list[SerialLog]) -> KitError:
    """The same error with what the board said itself."""
    if error.code != NOT_ONLINE or not logs:
        return error
    if crash := logs[-1].crash:
        return KitError(
            f"The program of {unit.name} ended with {crash} Mend it, and put it there with: "
            f"limpet up PORT --main SKETCH",
            NOT_ONLINE,
        )
    said = [line for line in logs[-1].rest() if line][-3:]
    if not said:
        return error
    words = f"{error} The board says: {' / '.join(said)}"
    if any(line.startswith("REFUSED") for line in said):
        words += f" If the broker does not know its account any more: --replace {unit.name}"
    return KitError(words, NOT_ONLINE)


def _at_prompt(
    stack: ExitStack, port: str | None, wish: Wish | None, console: Console, step: Step
) -> tuple[Board, bool]:
    """The board at its prompt, and whether MicroPython had to be written for that."""
    if port is not None and (wish is None or ports.is_there(port)):
        try:
            return stack.enter_context(Board(port)), False
        except NoMicroPython:
            if wish is None:
                raise
            step("prompt", f"no MicroPython answers at {port}")
    return stack.enter_context(Board(blank.fill(port, wish or Wish(), console, step).port)), True


def _show(
    watch: Watch,
    arrived: Callable[[str, bytes], None],
    reading_s: float,
    crashed: Callable[[], bool],
) -> None:
    end = time.monotonic() + reading_s
    while message := watch.anything(end - time.monotonic(), crashed):
        arrived(*message)
        if message[0].startswith("up/"):
            return
