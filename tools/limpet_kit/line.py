"""A production line: every board that is plugged in is brought up, several at once, and counted.

Each board is one `limpet up` in a process of its own, so that a port that hangs stops nobody
else. An RP2 in its boot mode is a drive and has no port yet: `limpet flash` gives it one. What
became of each is written down at once; a run that was stopped is gone on with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from . import flash, interrupt
from . import ports as serial_ports
from .broker.files import locked
from .console import printable
from .errors import FAILED, INTERRUPTED, MEANINGS, KitError

LIMIT_S = 300.0  # for one board, flashing included
_POLL_S = 0.2
_GRACE_S = 10.0  # for a child to end cleanly after Ctrl-C
_RECORDS = "units.jsonl"


@dataclass(frozen=True)
class Record:
    """What became of one board: `code` is the exit code of its `limpet up`, `words` why it failed;
    `name` and `online_s` (s from its start to its first word) are its unit's."""

    port: str
    code: int
    words: str
    name: str
    began: int  # s since 1970
    seconds: float
    enrolled: bool = False
    flashed: bool = False
    online_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is online."""
        return self.code == 0


class Run:
    """The folder of one run: what became of each board, in the order in which it ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.records = list(self._read())

    def _read(self) -> Iterable[Record]:
        file = self.folder / _RECORDS
        if not file.exists():
            return
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            try:
                yield Record(**json.loads(line))
            except (ValueError, TypeError):
                raise KitError(
                    f"Line {number} of {file} cannot be read. Take it out, or begin another run."
                ) from None

    def add(self, record: Record) -> None:
        """Write it down, so that a power cut does not lose it."""
        self.records.append(record)
        with locked(self.folder / ".lock"), (self.folder / _RECORDS).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @property
    def online(self) -> dict[str, Record]:
        """By name the units that are online; one that was plugged in twice counts once."""
        return {record.name: record for record in self.records if record.ok}

    @property
    def apart(self) -> list[Record]:
        """The last word on each port that failed since a board there came online."""
        last: dict[str, Record] = {}
        for record in self.records:
            if record.code != INTERRUPTED:
                last[record.port] = record
        return [record for record in last.values() if not record.ok]


class _Job:
    """One board at work: `limpet up` at a port, or `limpet flash` for a drive."""

    def __init__(
        self, port: str, options: list[str], environment: dict[str, str], drive: bool = False
    ) -> None:
        self.port = port
        self.drive = drive
        command = [sys.executable, "-m", "limpet_kit"]
        command += ["flash", "--no-wait", "--json", "--drive"] if drive else ["up", "--json"]
        self.began = time.time()
        self._ends = time.monotonic() + LIMIT_S
        self._process = subprocess.Popen(
            [*command, port, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # Ctrl-C comes from us, once
        )

    def poll(self) -> Record | None:
        """What became of it, None while it is at work."""
        try:
            out, err = self._process.communicate(timeout=0.001)
        except subprocess.TimeoutExpired:
            if time.monotonic() < self._ends:
                return None
            self.stop(0)
            out, err = "", f"It took more than {LIMIT_S:.0f} s."
        return self._record(out, err)

    def stop(self, grace_s: float = _GRACE_S) -> Record:
        """End it as Ctrl-C does; kill it when that takes too long."""
        self._process.send_signal(signal.SIGINT)
        try:
            out, err = self._process.communicate(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
        return self._record(out, err)

    def _record(self, out: str, err: str) -> Record:
        code = self._process.returncode
        said = _last_object(out)
        online_s = said.get("online_s")
        words = ""
        if code:
            if code < 0:  # a signal; ours may come before it has begun to listen
                code = INTERRUPTED if code == -signal.SIGINT else FAILED
            command = "limpet flash: " if self.drive else "limpet up: "
            lines = [line for line in err.splitlines() if line.startswith(command)]
            words = lines[-1].removeprefix(command) if lines else err.strip()[-200:]
            words = printable(words or MEANINGS.get(code, "it failed"), 500)
        return Record(
            port=self.port,
            code=code,
            words=words,
            name=printable(str(said.get("name", "")), 64),
            began=int(self.began),
            seconds=round(time.time() - self.began, 2),
            enrolled=said.get("enrolled") is True,
            flashed=said.get("flashed") is True,
            online_s=online_s if isinstance(online_s, float) else 0.0,
        )


def _last_object(text: str) -> dict[str, object]:
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def watch(
    run: Run,
    options: list[str],
    environment: dict[str, str],
    at_once: int,
    told: Callable[[str, Record | None], None],
    ports: list[str] | None = None,
    count: int | None = None,
    flashing: list[str] | None = None,
) -> bool:
    """Bring up what is plugged in, until Ctrl-C, or until `count` boards are done; whether it was
    stopped.

    With `ports` those alone, each once, then it ends. `options` and `environment` are for each
    `limpet up`, `flashing` are the options of `limpet flash` for drives of boot ROMs; a drive that
    was written to is no result, its board comes back at a port. `told(port, None)` says that one
    begins, `told(port, record)` what became of it. A board is tried again after it was unplugged.
    Ctrl-C lets nothing half-written pass for done.
    """
    waiting = list(ports or ())
    drives: set[str] = set()
    jobs: dict[str, _Job] = {}
    done: set[str] = set()
    ended = 0
    with interrupt.noticed() as stopped:
        try:
            while not stopped():
                if ports is None:
                    drives = {str(place) for place, _ in flash.drives()}
                    there = drives.union(serial_ports.of_boards())
                    done &= there
                    waiting = sorted(there - done - set(jobs))
                room = at_once if count is None else min(at_once, count - ended)
                while waiting and len(jobs) < room:
                    port = waiting.pop(0)
                    told(port, None)
                    drive = port in drives
                    jobs[port] = _Job(
                        port, flashing or [] if drive else options, environment, drive
                    )
                for port, job in list(jobs.items()):
                    record = job.poll()
                    if record:
                        del jobs[port]
                        done.add(port)
                        if not (job.drive and record.ok):
                            ended += 1
                            run.add(record)
                        told(port, record)
                if not jobs and ((ports is not None and not waiting) or ended == count):
                    break
                time.sleep(_POLL_S)
        finally:
            for job in jobs.values():
                record = job.stop()
                if not (job.drive and record.ok):
                    run.add(record)
                told(record.port, record)
        return stopped()
