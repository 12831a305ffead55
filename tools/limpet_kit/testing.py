"""What tests of sketches hold in their hands: a board, and the broker that it logs in at.

The fixtures of `limpet_kit.pytest` make these; how to use them is described in testing.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from . import bringup, sim, wifi
from .attack.proxy import Proxy
from .board import Board
from .broker import server
from .broker.client import KitClient
from .broker.settings import Settings
from .console import Console
from .enrolment import Plan
from .seriallog import SerialLog
from .sim import SimBoard
from .wifi import Network

WAIT_S = 15.0
Source = str | bytes | Path  # text of a program, bytes of a file, or where a file is


class BrokerUnderTest:
    """A running broker of a test's own, and a session of the kit that sees every message."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._broker = server.open_broker(settings)
        self._kit: KitClient | None = None

    def __enter__(self) -> BrokerUnderTest:
        self.start()
        self._kit = KitClient(self.settings)
        self._kit.__enter__()
        self._kit.subscribe("limpet/#")
        return self

    def __exit__(self, *_: object) -> None:
        if self._kit:
            self._kit.__exit__(None, None, None)
        self._broker.kill()

    def start(self) -> None:
        """Start it again after `stop`."""
        self._broker.start()

    def stop(self) -> None:
        """Stop it, as for an upgrade; devices notice and come back."""
        self._broker.stop()

    def message(self, topic: str, timeout_s: float = WAIT_S) -> bytes:
        """The payload of the next message on `limpet/<topic>`, as in `lamp/up/temperature`.

        AssertionError when none comes within `timeout_s` seconds.
        """
        assert self._kit, "only inside of its with"
        wanted = f"limpet/{topic}"
        found = self._kit.wait(lambda got, payload: got == wanted, timeout_s)
        assert found, f"no message on {wanted} within {timeout_s:.0f} s"
        return found[1]

    def forget(self) -> None:
        """Drop the messages that have come so far: what `message` gives then is new."""
        assert self._kit, "only inside of its with"
        while self._kit.wait(lambda topic, payload: True, 0):
            pass

    def command(self, device: str, name: str, payload: bytes) -> None:
        """Publish `limpet/<device>/cmd/<name>`; returns when the broker has it."""
        assert self._kit, "only inside of its with"
        self._kit.publish(f"limpet/{device}/cmd/{name}", payload)


class BoardUnderTest:
    """A board on a port, or a simulated one; its program is stopped and started as told.

    `sim` is the simulated board (its flash, its settings), None for a real one.
    """

    def __init__(self, port: str, simulated: SimBoard | None = None) -> None:
        self.port = port
        self.sim = simulated
        self.name = ""  # as it was enrolled
        self.heard: list[str] = []  # lines that it printed and `says` has read
        self._log: SerialLog | None = None

    def close(self) -> None:
        """Stop reading along."""
        if self._log:
            with suppress(OSError):
                self._log.__exit__(None, None, None)
        self._log = None

    def put(self, files: Mapping[str, Source]) -> None:
        """Write files: path on the board to content. What runs is stopped."""
        self.close()
        with Board(self.port) as board:
            for path, content in files.items():
                folder = path.rpartition("/")[0]
                if folder:
                    board.mkdir(folder)
                board.put(path, _content(content))

    def run(self, sketch: Source, files: Mapping[str, Source] | None = None) -> None:
        """Put a program there as main.py, and start it. It is not enrolled by this."""
        self.put({**(files or {}), "/main.py": sketch})
        self.restart()

    def up(
        self,
        broker: BrokerUnderTest,
        sketch: Path | None = None,
        name: str = "lamp",
        through: Proxy | None = None,
    ) -> None:
        """As `limpet up`: library, credential, program (ours without a `sketch`), until it is
        online. With `through` it dials the fault proxy in place of the broker."""
        self.close()
        chosen = broker.settings
        if through:
            chosen = replace(chosen, port=through.port)
        plan = Plan(_networks if self.sim is None else wifi.simulated, name=name)
        silent = Console(as_json=True)
        bringup.bring_up(
            self.port,
            chosen,
            plan,
            silent,
            lambda step, words: None,
            goods=bringup.Goods(sketch, replace_main=sketch is None),
            reading_s=0,
        )
        self.name = name
        self._listen()

    def restart(self) -> None:
        """Start its program anew, as Ctrl-D does."""
        self.close()
        with Board(self.port) as board:
            board.soft_reset(run_main=True)
        self._listen()

    def says(self, beginning: str, timeout_s: float = WAIT_S) -> str:
        """The next line it prints that begins so; what comes before is skipped.

        AssertionError, with what it said instead, when none comes within `timeout_s` seconds.
        """
        end = time.monotonic() + timeout_s
        while self._log and time.monotonic() < end:
            line = self._log.wait("", end - time.monotonic())
            if line is not None:
                self.heard.append(line)
                if line.startswith(beginning):
                    return line
        raise AssertionError(
            f"the board did not say {beginning!r} within {timeout_s:.0f} s; its last words:\n"
            + "\n".join(self.heard[-20:])
        )

    def exec(self, code: str) -> str:
        """Run code at its prompt and return what it printed. What runs is stopped."""
        self.close()
        with Board(self.port) as board:
            return board.exec(code)

    def _listen(self) -> None:
        self._log = SerialLog(str(Board(self.port).device))
        self._log.__enter__()


def cut_power(board: BoardUnderTest, after: int = 0, percent: int = 50) -> None:
    """Cut the power of a simulated board, and let it start again.

    At once, or in the `after`-th flash operation from now, of which `percent` are done then: so
    the program must be about to write. Raises AssertionError when that does not come.
    """
    assert board.sim, "the power of a real board cannot be cut from here"
    if after:
        board.sim.cut_power(after, percent)
        assert board.sim.wait_off(WAIT_S), f"there was no flash operation {after}"
    else:
        board.sim.kill()
    board.close()
    board.sim = sim.start(board.sim.name)
    board._listen()


def _content(source: Source) -> bytes:
    if isinstance(source, Path):
        return source.read_bytes()
    return source.encode() if isinstance(source, str) else source


def _networks() -> list[Network]:
    """For real boards: two lines a network in LIMPET_WIFI."""
    return wifi.parse(os.environ.get(wifi.VARIABLE, ""), wifi.VARIABLE)
