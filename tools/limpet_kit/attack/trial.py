"""One device against all cases: each in the broker's place, then the honest server again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from ..board import Board, Raised
from ..broker import server as broker
from ..broker.settings import Settings
from ..errors import FAILED, REFUSED, KitError
from ..seriallog import SerialLog
from .cases import BROKER, PATIENCE, TRUST, Case, World
from .server import Seen, Server

COME_S = 40.0  # for a device to connect after a reset
SAY_S = 5.0  # after that, for it to say something it should not
BACK_S = 75.0  # to come back by itself: its second try may wait 30 s, a login another 30
CALM_S = 10.0  # without a second try after a refusal
_FORGIVE = (
    "from limpet import vault;v=vault.Vault();r=v.read()\nif r:r.wipe();v.note(left=0,steps=0)"
)
_CLIENT_HELLO = 0x16
_TICK_S = 0.05

HELD, FELL, NOT_TRIED = "held", "fell", "not tried"


@dataclass(frozen=True)
class Result:
    """What a device did in one case: `verdict` held, fell or not tried (it never came).

    `said` counts bytes it told the hostile server in confidence or in clear; `back_s` seconds
    until it logged in at the honest server again, None when it did not.
    """

    case: str
    words: str
    verdict: str
    why: str
    said: int
    back_s: float | None
    log: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Trial:
    """The device at `port`, whose broker is `chosen`. The broker stands still meanwhile."""

    def __init__(self, port: str, chosen: Settings, listen: str | None = None) -> None:
        self._port = port
        self._address = (listen or chosen.address, chosen.port)
        loopback = self._address[0].startswith("127.") or self._address[0] == "::1"
        if not loopback and listen is None:
            raise KitError(
                f"The broker listens on {chosen.listen}, where others reach it. To put hostile "
                "servers there, name the address: --listen ADDRESS",
                REFUSED,
            )
        self._broker = broker.open_broker(chosen)
        self.world = World.of(chosen)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take the broker's place; it runs again afterwards if it ran before."""
        ran = self._broker.running()
        if ran:
            self._broker.stop()
        try:
            yield
        finally:
            if ran:
                self._broker.start()

    def control(self) -> float:
        """Seconds from a reset until the device logs in at the honest server.

        Raises `KitError` when it does not: no case would mean anything then.
        """
        with self._serve(self.world.honest) as honest:
            self._reset()
            with self._log() as log:
                took = self._logs_in(honest, COME_S)
                words = _telling(log.rest()) if log else ""
        if took is None:
            raise KitError(
                f"The device at {self._port} did not log in at its own server at "
                f"{self._address[0]}:{self._address[1]} within {COME_S:.0f} s, so attacking it "
                "would prove nothing. Is it enrolled at this broker (--broker DIR), does it dial "
                f"this address (--listen ADDRESS)? It says: {words or 'nothing'}",
                FAILED,
            )
        return took

    def run(self, case: Case) -> Result:
        """One case, and the way back."""
        with self._serve(case.server) as hostile:
            self._reset()
            with self._log() as log:
                came = hostile.arrived.wait(COME_S)
                if came:
                    self._watch(hostile, case)
                words = _telling(log.rest()) if log else ""
        said = _said(hostile, case)
        if case.kind == PATIENCE:
            self._forgive()
        with self._serve(self.world.honest) as honest:
            if case.kind != BROKER:  # a server that is not trusted is tried again in minutes only
                self._reset()
            back = self._logs_in(honest, BACK_S if case.kind == BROKER else COME_S)
        verdict, why = _judge(case, came, said, len(hostile.seen), back)
        return Result(case.name, case.words, verdict, why, said, back, words)

    @contextmanager
    def _serve(self, make: Callable[[tuple[str, int]], Server]) -> Iterator[Server]:
        try:
            server = make(self._address)
            server.__enter__()
        except OSError as e:
            raise KitError(
                f"{self._address[0]}:{self._address[1]} cannot be taken: {e.strerror}.", FAILED
            ) from None
        try:
            yield server
        finally:
            server.__exit__()

    def _watch(self, hostile: Server, case: Case) -> None:
        """Until it has gone, or has said something."""
        end = time.monotonic() + (CALM_S if case.kind == PATIENCE else SAY_S)
        while time.monotonic() < end:
            if case.kind != PATIENCE and (hostile.left.is_set() or _said(hostile, case)):
                return
            time.sleep(_TICK_S)

    def _logs_in(self, honest: Server, within_s: float) -> float | None:
        began = time.monotonic()
        while time.monotonic() < began + within_s:
            if any(one.plain[:1] == b"\x10" for one in honest.seen):
                return time.monotonic() - began
            time.sleep(_TICK_S)
        return None

    def _forgive(self) -> None:
        """End the hour that a Limpet device waits after a refusal, also over resets."""
        with Board(self._port) as board, suppress(Raised):
            board.exec(_FORGIVE)

    def _reset(self) -> None:
        with Board(self._port) as board:
            board.soft_reset(run_main=True)
            self._device = board.device

    @contextmanager
    def _log(self) -> Iterator[SerialLog | None]:
        """The board's words, where its port can be opened a second time."""
        log = SerialLog(self._device)
        try:
            log.__enter__()
        except OSError:
            yield None
            return
        try:
            yield log
        finally:
            with suppress(OSError):
                log.__exit__(None, None, None)


def _said(hostile: Server, case: Case) -> int:
    """Bytes that a server without trust got to know; TLS's own first packet is not among them."""
    return sum(_told(one) for one in hostile.seen) if case.kind == TRUST else 0


def _told(one: Seen) -> int:
    return (
        0 if one.wire == one.plain and one.wire[:1] == bytes([_CLIENT_HELLO]) else len(one.plain)
    )


def _telling(lines: list[str]) -> str:
    """The line of a Limpet log that says why."""
    for line in lines:
        if line.startswith(("UNTRUSTED", "REFUSED", "OFFLINE")):
            return line
    return lines[-1] if lines else ""


def _judge(
    case: Case, came: bool, said: int, connections: int, back: float | None
) -> tuple[str, str]:
    if not came:
        return NOT_TRIED, "the device did not connect"
    if said:
        return FELL, f"it told this server {said} bytes, its login among them"
    if case.kind == PATIENCE and connections > 1:
        return FELL, f"{connections} logins within {CALM_S:.0f} s of a refusal"
    if back is None:
        return FELL, "it did not come back to the honest server"
    return HELD, ""


def junit(results: list[Result]) -> str:
    """The results as JUnit XML, as CI servers read it."""
    counts = {v: sum(r.verdict == v for r in results) for v in (FELL, NOT_TRIED)}
    suite = ElementTree.Element(
        "testsuite",
        name="limpet attack",
        tests=str(len(results)),
        failures=str(counts[FELL]),
        skipped=str(counts[NOT_TRIED]),
    )
    for one in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname="limpet.attack",
            name=one.case,
            time=f"{one.back_s or 0:.2f}",
        )
        if one.verdict == FELL:
            ElementTree.SubElement(case, "failure", message=one.why).text = one.words
        elif one.verdict == NOT_TRIED:
            ElementTree.SubElement(case, "skipped", message=one.why)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
