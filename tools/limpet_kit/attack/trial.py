"""One device against all cases: each in the broker's place, then the honest server again."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

from .. import enrolment, sim
from ..board import Board
from ..broker import server as broker
from ..broker.settings import Settings
from ..errors import FAILED, REFUSED, USAGE, KitError
from ..interrupt import undisturbed
from ..ledger import Ledger, Unit
from ..seriallog import SerialLog
from .cases import BROKER, LINK, PATIENCE, TRICK, TRUST, Case, World, cases
from .proxy import Proxy
from .result import FELL, HELD, NOT_TRIED, Result, ended, sent, telling, told
from .server import Seen, Server
from .time_servers import TimeServers

COME_S = 40.0  # for a device to connect after a reset
SAY_S = 5.0  # after that, for it to say something it should not
STAY_S = 3.0  # and after its first try, for a second one that checks less
BACK_S = 75.0  # to come back by itself: its second try may wait 30 s, a login another 30
SILENT_S = 150.0  # the same from a link that died in silence: a keep-alive and a half more
CALM_S = 10.0  # without a second try after a refusal
_TRICK_S = 2.0  # for a lie to work
_CRASH_S = 0.3  # for a program that fails to be heard
_TICK_S = 0.05
_AS_BEFORE: dict[str, Any] = {"address": None, "hosts": None, "ports": None}
_NTP = tuple(f"{n}.pool.ntp.org" for n in range(4))


class Trial:
    """The device at `port`, whose broker is `chosen`; used as a context manager.

    The broker stands still meanwhile. Whatever happens inside, at the end the broker runs again if
    it ran before, and the device's program too, without a wait that a refusal began. `account` is
    the user name or client id of a device that this kit's ledger does not know. A server that is
    not to be trusted stays for `stay_s` seconds after the device's first try.
    """

    def __init__(
        self,
        port: str,
        chosen: Settings,
        listen: str | None = None,
        account: str | None = None,
        warn: Callable[[str], None] = lambda words: None,
        stay_s: float = STAY_S,
    ) -> None:
        self._port = port
        self._stay_s = stay_s
        self._address = (listen or chosen.address, chosen.port)
        loopback = self._address[0].startswith("127.") or self._address[0] == "::1"
        if not loopback and listen is None:
            raise KitError(
                f"The broker listens on {chosen.listen}, where others reach it. To put hostile "
                "servers there, name the address: --listen ADDRESS",
                REFUSED,
            )
        self._broker = broker.open_broker(chosen)
        self._names = {account} if account else set()
        self._warn = warn
        self._unit: Unit | None = None
        self._sim = sim.find(port.removeprefix("sim:")) if port.startswith("sim:") else None
        self._source: str | None = None  # the device's address, once it is known
        self._stack = ExitStack()
        self.world = World.of(chosen)

    def __enter__(self) -> Trial:
        self._identify()
        try:
            self._stack.callback(self._wake)
            if self._sim:
                self._stack.callback(self._sim.configure, **_AS_BEFORE)
                if sys.platform == "linux":  # all of 127/8 is this machine
                    a, b, c = (1 + secrets.randbelow(250) for _ in range(3))
                    self._sim.configure(address=f"127.{a}.{b}.{c}")
            if self._broker.running():
                self._stack.callback(self._broker.start)
                self._broker.stop()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with undisturbed():
            self._stack.close()

    def cases(self) -> list[Case]:
        """Those that can be tried on this device: time servers lie to simulated boards only."""
        vault = bytes.fromhex(self._unit.vault) if self._unit else bytes(16)
        every = cases(self.world, self._unit.name if self._unit else "device", vault)
        return [case for case in every if self._sim or case.wrong is None]

    def control(self) -> float:
        """Seconds from a reset until the device logs in at the honest server.

        Raises `KitError` when it does not: no case would mean anything then.
        """
        with self._serve(self.world.honest) as honest:
            self._reset()
            with self._log() as log:
                took = self._logs_in(honest, COME_S)
                lines = log.rest() if log else []
            for one in self._logins(honest):
                self._source = one.address
        if took is None:
            raise KitError(
                f"The device at {self._port} did not log in with its own account at its own "
                f"server at {self._address[0]}:{self._address[1]} within {COME_S:.0f} s, so "
                "attacking it would prove nothing. Is it enrolled at this broker (--broker DIR), "
                f"does it dial this address (--listen ADDRESS)? It says: "
                f"{ended(lines) or telling(lines) or 'nothing'}",
                FAILED,
            )
        return took

    def run(self, case: Case) -> Result:
        """One case, and the way back; at most four minutes."""
        began = time.monotonic()
        result = self._link(case) if case.kind == LINK else self._place(case)
        return result.took(time.monotonic() - began)

    def _place(self, case: Case) -> Result:
        """A hostile server in the broker's place."""
        with self._time(case) as asked, self._serve(case.server) as hostile:
            self._reset(hard=case.wrong is not None)
            with self._log() as log:
                came = self._until(lambda: bool(self._mine(hostile)), COME_S)
                if came:
                    self._watch(hostile, case)
                lines = log.rest() if log else []
            mine = self._mine(hostile)
            unasked = case.wrong is not None and not asked()
        crash = ended(lines)
        with self._serve(self.world.honest) as honest:
            alone = case.kind == BROKER and not crash
            if not alone:  # a server that is not trusted is tried again in minutes only
                self._reset()
            back = self._logs_in(honest, BACK_S if alone else COME_S)
        said = sum(told(one) for one in mine) if case.kind == TRUST else 0
        verdict, why = HELD, "it asked no time server" if unasked else ""
        if not mine:
            verdict, why = NOT_TRIED, "the device did not connect"
        elif said:
            verdict, why = FELL, f"it told this server {said} bytes, its login among them"
        elif crash:
            verdict, why = FELL, f"its program ended: {crash}"
        elif case.kind == PATIENCE and len(mine) > 1:
            verdict, why = FELL, f"{len(mine)} logins within {CALM_S:.0f} s of a refusal"
        elif back is None:
            verdict, why = FELL, "it did not come back to the honest server"
        return Result(case.name, case.words, verdict, why, sent(mine), said, back, telling(lines))

    def _link(self, case: Case) -> Result:
        """The honest server behind a proxy."""
        with self.world.honest(("127.0.0.1", 0)) as honest:
            proxy = self._proxy(honest)
            try:
                proxy.slice, proxy.pace = case.slice, 0.005 if case.slice else 0.0
                self._reset()
                with self._log() as log:
                    back = self._logs_in(honest, BACK_S, anywhere=True)
                    came = back is not None
                    if came and case.fault:
                        time.sleep(_TRICK_S)  # it subscribes
                        before = proxy.accepted
                        case.fault(proxy)
                        began = time.monotonic()
                        self._until(lambda: proxy.accepted > before, SILENT_S)
                        proxy.thaw()
                        back = self._logs_in(honest, BACK_S, 2, anywhere=True)
                        back = None if back is None else time.monotonic() - began
                    lines = log.rest() if log else []
                mine = self._logins(honest)
            finally:
                proxy.close()
        crash = ended(lines)
        verdict, why = HELD, ""
        if crash:
            verdict, why = FELL, f"its program ended: {crash}"
        elif not came and case.fault:
            verdict, why = NOT_TRIED, "the device did not connect"
        elif back is None:
            verdict, why = FELL, "it did not come back"
        return Result(case.name, case.words, verdict, why, sent(mine), 0, back, telling(lines))

    # -- the device

    def _identify(self) -> None:
        """Whose logins count: those of this unit's accounts, never another board's."""
        with Board(self._port) as board:
            try:
                hello = enrolment.look(board)
            except KitError:
                hello = None
            if hello:
                with Ledger() as ledger:
                    self._unit = enrolment.held(ledger, hello)
                    if self._unit and not self._names:
                        self._names = ledger.logins(self._unit.vault)
            if not self._names:
                board.soft_reset(run_main=True)
                raise KitError(
                    f"No unit of this kit's ledger is on the board at {self._port}, so nobody "
                    "knows which login is its. Enrol it with: limpet up "
                    f"{self._port}. For a program of your own, say as whom it logs in: "
                    "--account NAME",
                    USAGE,
                )

    def _reset(self, hard: bool = False) -> None:
        """Start its program anew; a Limpet device also forgets that it was refused."""
        with Board(self._port) as board:
            if hard:
                board.hard_reset()
            if self._unit:
                enrolment.start(board)
            else:
                board.soft_reset(run_main=True)
            self._device = board.device

    def _wake(self) -> None:
        """At the end: its program runs, whatever it was left in."""
        try:
            self._reset()
        except KitError as e:
            self._warn(f"the device's program was not started again: {e}")

    @contextmanager
    def _log(self) -> Iterator[SerialLog | None]:
        """The board's words, where its port can be opened a second time."""
        log = SerialLog(str(self._device))
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

    # -- the world

    @contextmanager
    def _serve(self, make: Callable[[tuple[str, int]], Server]) -> Iterator[Server]:
        server = make(self._address)
        try:
            server.__enter__()
        except OSError as e:
            raise self._taken(e) from None
        try:
            yield server
        finally:
            server.__exit__()

    def _proxy(self, honest: Server) -> Proxy:
        try:
            return Proxy((honest.host, honest.port), self._address)
        except OSError as e:
            raise self._taken(e) from None

    def _taken(self, e: OSError) -> KitError:
        return KitError(
            f"{self._address[0]}:{self._address[1]} cannot be taken: {e.strerror}.", FAILED
        )

    @contextmanager
    def _time(self, case: Case) -> Iterator[Callable[[], int]]:
        """Time servers that lie; yields how often they were asked."""
        if case.wrong is None or self._sim is None:
            yield lambda: 0
            return
        servers = TimeServers()
        servers.wrong = case.wrong
        port = int(servers.names[0].rpartition(":")[2])
        hosts = dict.fromkeys(_NTP, "127.0.0.1")
        self._sim.configure(hosts=hosts, ports={"123": port})
        try:
            yield lambda: servers.asked
        finally:
            self._sim.configure(hosts=None, ports=None)
            servers.close()

    # -- waiting

    def _watch(self, hostile: Server, case: Case) -> None:
        """Until it has gone, or has said something."""
        if case.kind == PATIENCE:
            time.sleep(CALM_S)
            return
        if case.kind == TRICK:
            self._until(lambda: bool(self._logins(hostile)), SAY_S)
            time.sleep(_TRICK_S)
            return

        def spoke() -> bool:
            return case.kind == TRUST and any(told(one) for one in self._mine(hostile))

        self._until(lambda: spoke() or any(one.gone for one in self._mine(hostile)), SAY_S)
        if case.kind == TRUST:  # there are programs that verify first, and then do without
            self._until(spoke, self._stay_s)
        time.sleep(_CRASH_S)

    def _mine(self, server: Server) -> list[Seen]:
        """The device's connections: others may come to the same place."""
        return [one for one in server.seen if self._source in (None, one.address)]

    def _logins(self, server: Server) -> list[Seen]:
        """Connections on which this device's account has logged in."""
        return [one for one in server.seen if one.login and self._names & set(one.login)]

    def _logs_in(
        self, server: Server, within_s: float, times: int = 1, anywhere: bool = False
    ) -> float | None:
        """Seconds until it has logged in so often; None when it does not."""
        began = time.monotonic()

        def done() -> bool:
            found = [
                one
                for one in self._logins(server)
                if anywhere or self._source in (None, one.address)
            ]
            return len(found) >= times

        return time.monotonic() - began if self._until(done, within_s) else None

    def _until(self, holds: Callable[[], bool], within_s: float) -> bool:
        end = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(_TICK_S)
        return True
