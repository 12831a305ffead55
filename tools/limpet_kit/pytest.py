"""A pytest plug-in: boards, brokers and trouble for tests of sketches, without hardware.

Load it with `pytest_plugins = ["limpet_kit.pytest"]` in the conftest.py beside your tests, or with
`-p limpet_kit.pytest`. It is no entry point on purpose: an installed kit changes nothing in the
tests of other projects. How to use it is described in testing.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the kit itself is imported by the fixtures that need it
    from .attack.proxy import Proxy
    from .attack.server import Server
    from .broker.server import Broker
    from .broker.settings import Settings
    from .sim import SimBoard
    from .testing import BoardUnderTest, BrokerUnderTest

_TRIES = 3  # another test may take a free port first


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--board` and `--board-dials`."""
    group = parser.getgroup("limpet")
    group.addoption("--board", metavar="PORT", help="the real board of the fixture `board`")
    group.addoption(
        "--board-dials",
        metavar="ADDRESS",
        help="where that board reaches the brokers of this machine; Wi-Fi comes from LIMPET_WIFI",
    )


@pytest.fixture
def limpet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit of the test's own (LIMPET_HOME): its ledger, key and simulated boards."""
    folder = tmp_path / "home"
    monkeypatch.setenv("LIMPET_HOME", str(folder))
    return folder


@pytest.fixture
def sim_factory(limpet_home: Path) -> Iterator[Callable[..., SimBoard]]:
    """`sim_factory(board="SIM_RP2", library=False)` -> a blank SimBoard, running."""
    from . import install, micropython, sim
    from .board import Board

    if micropython.find() is None:
        pytest.skip("the MicroPython binary is NOT INSTALLED: no simulated board was tested")
    made: list[SimBoard] = []

    def factory(board: str = "SIM_RP2", library: bool = False) -> SimBoard:
        started = sim.start(f"board-{len(made)}", board)
        made.append(started)
        if library:
            with Board(f"sim:{started.name}") as opened:
                install.library(opened, lambda done, total: None)
        return started

    yield factory
    for one in made:
        one.kill()


@pytest.fixture
def broker_factory(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """`broker_factory(kind="embedded", names=("localhost",), start=True, ...)` -> Broker.

    Each on a free port of loopback, with a CA of its own. The rest goes to
    `limpet_kit.broker.settings.create`.
    """
    made: list[Broker] = []

    def factory(
        kind: str = "embedded",
        names: tuple[str, ...] = ("localhost",),
        start: bool = True,
        **options: Any,
    ) -> Broker:
        from .broker import server
        from .errors import KitError

        for attempt in range(_TRIES):
            broker = server.open_broker(_settings(tmp_path, "broker", kind, names, **options))
            if not start:
                break
            try:
                broker.start()
                break
            except KitError as e:
                if "taken" not in str(e) or attempt == _TRIES - 1:
                    raise
        made.append(broker)
        return broker

    yield factory
    for one in made:
        one.kill()


@pytest.fixture
def proxy_factory() -> Iterator[Callable[..., Proxy]]:
    """`proxy_factory(broker or (host, port))` -> Proxy."""
    from .attack.proxy import Proxy

    made: list[Proxy] = []

    def factory(target: Any) -> Proxy:
        if not isinstance(target, tuple):
            target = (target.settings.address, target.settings.port)
        made.append(Proxy(target))
        return made[-1]

    yield factory
    for one in made:
        one.close()


@pytest.fixture
def hostile_factory(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`hostile_factory(*behaviours)` -> Server: a device's own, by certificate and name, that
    behaves as told (`limpet_kit.attack.behaviours`). Its `settings` are a broker's."""
    from .attack.behaviours import Behaviour, serve
    from .attack.cases import World
    from .attack.server import Server

    made: list[Server] = []

    def factory(*behaviours: Behaviour) -> Server:
        for attempt in range(_TRIES):
            chosen = _settings(tmp_path, "hostile", "mosquitto", ("localhost",))
            server = Server(
                World.of(chosen).server,
                (chosen.address, chosen.port),
                behaviours=behaviours or (serve,),
                settings=chosen,
            )
            try:
                made.append(server.__enter__())
                break
            except OSError:
                if attempt == _TRIES - 1:
                    raise
        return server

    yield factory
    for one in made:
        one.__exit__()


@pytest.fixture
def sim_board(sim_factory: Callable[..., SimBoard]) -> Iterator[BoardUnderTest]:
    """A blank simulated board (a Pico W's flash and modules)."""
    from .testing import BoardUnderTest

    made = sim_factory()
    board = BoardUnderTest(f"sim:{made.name}", made)
    yield board
    board.close()


@pytest.fixture
def board(request: pytest.FixtureRequest, limpet_home: Path) -> Iterator[BoardUnderTest]:
    """The board of `--board PORT`, otherwise a simulated one."""
    from .testing import BoardUnderTest

    port = request.config.getoption("--board", None)
    if port is None:
        yield request.getfixturevalue("sim_board")
        return
    real = BoardUnderTest(port)
    yield real
    real.close()


@pytest.fixture
def broker(
    request: pytest.FixtureRequest, broker_factory: Callable[..., Broker], limpet_home: Path
) -> Iterator[BrokerUnderTest]:
    """A running broker: the embedded one, on loopback, unless `--board-dials` names an address."""
    from .testing import BrokerUnderTest

    dials = request.config.getoption("--board-dials", None)
    made = broker_factory(names=(dials,) if dials else ("localhost",), start=False)
    with BrokerUnderTest(made.settings) as started:
        yield started


@pytest.fixture
def hostile_server(broker: BrokerUnderTest) -> Iterator[Callable[..., Server]]:
    """`hostile_server(case="other-ca")` -> the Server of that attack, in the broker's place.

    The broker is stopped for it. Its `plain` is what the device told it, `seen` who came. The
    cases are those of `limpet attack`.
    """
    from .attack.cases import LINK, World, cases

    made: list[Server] = []

    def factory(case: str = "other-ca") -> Server:
        chosen = broker.settings
        known = {one.name: one for one in cases(World.of(chosen)) if one.kind != LINK}
        assert case in known, f"there is no case {case}; there are {', '.join(known)}"
        broker.stop()
        server = known[case].server((chosen.address, chosen.port))
        made.append(server.__enter__())
        return server

    yield factory
    for one in made:
        one.__exit__()


@pytest.fixture
def fault_proxy(broker: BrokerUnderTest, proxy_factory: Callable[..., Proxy]) -> Proxy:
    """A proxy before the broker: `cut`, `freeze`, `thaw`, `refuse`, `listen`, `slice`.

    A board dials it after `board.up(broker, through=fault_proxy)`.
    """
    return proxy_factory(broker)


@pytest.fixture
def power_cut() -> Callable[..., None]:
    """`power_cut(board, after=0, percent=50)`: cut a simulated board's power, start it again."""
    from .testing import cut_power

    return cut_power


def _settings(
    folder: Path, stem: str, kind: str, names: tuple[str, ...], **options: Any
) -> Settings:
    """A new broker's folder and a free port."""
    from .broker import settings
    from .broker.server import free_port

    number = len(list(folder.glob(f"{stem}-*")))
    port = free_port(count=4 if kind == "rabbitmq" else 1)
    return settings.create(folder / f"{stem}-{number}", list(names), port, kind, **options)
