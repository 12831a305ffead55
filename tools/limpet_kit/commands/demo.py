"""`limpet demo`: the main job on a simulated board, then the proof of what it promises."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import bringup, sim
from ..attack.impostor import impostor
from ..audit import Canary, search
from ..board import Board
from ..broker import accounts, export, server, settings
from ..console import Console
from ..enrolment import Plan
from ..errors import DEMO_FAILED, OK, KitError
from ..interrupt import like_ctrl_c
from ..secret import Secret
from ..seriallog import SerialLog
from ..watch import Watch
from ..wifi import Network
from .broker import describe

HELP = "the main job without hardware, then its proof, in under a minute"
EPILOG = "example:  limpet demo --json"

BOARD = "SIM_RP2"
NAME = "demo-lamp"
SSID = b"limpet-demo"
BACK_S = 40.0  # the second try of a device may come 30 s after the first
QUIET_S = 4.0  # how long a refused device is watched for another try


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object last")


def run(args: argparse.Namespace) -> int:
    """Run all of it in a temporary folder; returns the exit code."""
    console = Console(args.json)
    folder = Path(tempfile.mkdtemp(prefix="limpet-demo-"))
    before = os.environ.get("LIMPET_HOME")
    os.environ["LIMPET_HOME"] = str(folder)
    demo = Demo(console, folder)
    try:
        with like_ctrl_c():
            demo.run()
    except KitError as e:
        demo.failed.append(str(e))
    finally:
        demo.end()
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ["LIMPET_HOME"]
        else:
            os.environ["LIMPET_HOME"] = before
    demo.result["ok"] = not demo.failed
    console.result(demo.result)
    if demo.failed:
        raise KitError("This did not hold: " + "; ".join(demo.failed), DEMO_FAILED)
    return OK


class Demo:
    """The steps, each one line with what was seen; `result` holds the figures."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._folder = folder
        self._closing: list[Callable[[], object]] = []
        self.failed: list[str] = []
        self.result: dict[str, Any] = {"ok": False}

    def run(self) -> None:
        """All steps in order. Raises `KitError` where one cannot go on."""
        began = time.monotonic()
        self._start_broker()
        wifi = self._bring_up()
        with Watch(self._chosen, NAME) as watch:
            self._command(watch)
            self._restart_broker(watch)
        password = self._take_password()
        self._impostor(password)
        self._wrong_password()
        self._search_flash(wifi, password)
        self.result["seconds"] = round(time.monotonic() - began, 1)

    def end(self) -> None:
        """Stop whatever was started, last first."""
        while self._closing:
            self._closing.pop()()

    def _line(self, name: str, held: bool, words: str) -> None:
        self._console.line(f"{'ok ' if held else 'NOT'}  {name:<16} {words}")
        if not held:
            self.failed.append(f"{name}: {words}")

    def _start_broker(self) -> None:
        self._chosen = settings.create(
            self._folder / "broker", list(settings.LOOPBACK), server.free_port(), demo=True
        )
        self._broker = server.open_broker(self._chosen)
        self._broker.start()
        self._closing.append(self._broker.kill)
        self.result |= {"broker": self._chosen.kind, "profile": self._chosen.profile}
        self._line("broker", True, describe(self._chosen))

    def _bring_up(self) -> Secret:
        """A blank board, enrolled and online; the key of its Wi-Fi network."""
        wifi = Secret(secrets.token_urlsafe(15).encode())
        self._board = sim.start("demo", BOARD)
        self._closing.append(self._board.kill)
        self._board.configure(networks={SSID.decode(): wifi.reveal().decode()})
        self._line("board", True, f"simulated {BOARD}, the real MicroPython on a blank flash")
        plan = Plan(networks=lambda: [Network(SSID, wifi)], name=NAME)
        done = bringup.bring_up(
            "sim:demo", self._chosen, plan, self._console, lambda name, words: None
        )
        self.result["online_s"] = round(done.online_s, 2)
        words = f"library, credential and main.py written; online after {done.online_s:.1f} s"
        self._line("enrolled", done.enrolled, words)
        return wifi

    def _command(self, watch: Watch) -> None:
        took = watch.answers(BACK_S)
        self._line(
            "command",
            took is not None,
            f"ping answered in {took * 1000:.1f} ms" if took else "ping was not answered",
        )

    def _restart_broker(self, watch: Watch) -> None:
        self._broker.kill()
        began = time.monotonic()
        self._broker.start()
        back = watch.answers(BACK_S) is not None
        took = time.monotonic() - began
        self.result["reconnect_s"] = round(took, 2) if back else None
        words = f"device back {took:.1f} s after" if back else "the device did not come back after"
        self._line("broker restart", back, f"{words} the broker was killed and restarted")

    def _take_password(self) -> Secret:
        """What the board answers to whoever has it in hand and runs code on it."""
        with Board("sim:demo") as board:
            said = board.exec(
                "from limpet import record,vault;from binascii import hexlify;"
                "print(hexlify(vault.Vault().read().one(record.PASSWORD)).decode())"
            )
        return Secret(bytes.fromhex(said.strip()))

    def _impostor(self, password: Secret) -> None:
        """Somebody else on the broker's port, with a forged certificate for the same names."""
        self._broker.kill()
        address = (self._chosen.address, self._chosen.port)
        with impostor(list(self._chosen.names), address) as forger:
            with Board("sim:demo") as board:
                board.soft_reset(run_main=True)
            with SerialLog(str(self._board.device)) as log:
                said = log.wait("UNTRUSTED", BACK_S)
            forger.left.wait(BACK_S)
        leaked = len(password) if forger.holds(password.reveal()) else 0
        leaked = leaked or len(forger.plain)
        refused = said is not None and len(forger.seen) > 0
        self.result |= {
            "impostor_refused": refused,
            "impostor_reason": (said or "").removeprefix("UNTRUSTED: "),
            "password_bytes_leaked": leaked,
        }
        words = f"refused: {self.result['impostor_reason']}" if refused else "was not refused"
        self._line("impostor", refused and not leaked, f"{words}; {leaked} password bytes sent")

    def _wrong_password(self) -> None:
        """The broker knows the account, but with another password."""
        folder = self._chosen.folder
        known = [
            account._replace(verifier=accounts.verifier(Secret(b"another")))
            for name, account in export.read(folder).items()
            if not name.startswith((accounts.KIT_PREFIX, accounts.PROBE_PREFIX))
        ]
        server.sync(self._chosen, known)
        self._broker.start()
        self._board.kill()
        self._board = sim.start("demo")
        with SerialLog(str(self._board.device)) as log:
            said = log.wait("REFUSED", BACK_S)
            again = log.wait("next try in ", 1.0) or ""
            more = log.wait("CONNECTING", QUIET_S)
        wait_s = int("".join(c for c in again if c.isdigit()) or 0)
        logins = (folder / server.LOG).read_text("utf-8", "replace").lower()
        tries = len(re.findall(r"not authorised|refused: wrong", logins))
        held = said is not None and more is None and tries == 1
        self.result |= {"refused_state": "REFUSED" if said else None, "refused_logins": tries}
        self._line(
            "wrong password",
            held,
            f"REFUSED after {tries} login, next try in {wait_s // 60} min"
            if held
            else f"{said or 'not refused'}, {tries} logins",
        )

    def _search_flash(self, wifi: Secret, password: Secret) -> None:
        self._board.kill()
        image = self._board.image.read_bytes()
        hits = search(image, [Canary.of("password", password), Canary.of("Wi-Fi key", wifi)])
        self.result["secrets_found_in_flash"] = len(hits)
        found = ", ".join(f"{hit.name} as {hit.form} at {hit.offset:#x}" for hit in hits[:3])
        words = f"{len(image) >> 20} MiB searched for password and Wi-Fi key, raw, hex and base64"
        self._line("flash", not hits, f"{words}: {found or 'not there'}")
