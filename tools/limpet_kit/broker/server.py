"""Start, stop and feed the broker of a folder, whichever program it is.

The broker's process holds a lock on `broker.pid` from before its start to its end, however it
ends: the descriptor is handed down to it. So "is it running" is a question to the kernel, and a
number left behind by a broker that was killed is never taken for a living one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import interrupt
from ..console import printable
from ..errors import NO_BROKER, KitError
from ..secret import Secret
from . import accounts, client, connect, embedded, keyed, mosquitto, rabbitmq, rabbitmq_api
from .accounts import Account
from .export import ACL, PASSWORDS, Export, read_passwords
from .files import locked, try_lock, write_private
from .settings import RABBITMQ, Settings, kit_logins
from .stuck import Stuck

LOG = mosquitto.LOG
PID = "broker.pid"
SYNC = ".sync.lock"
TAKEN = ".taken"  # which export the running broker was last seen to have read, and when
TAKEN_S = 10.0  # for a running broker to take an export
APART_S = 1.0  # between two reloads: one of 100,000 accounts keeps everybody waiting for 0.6 s
_KILL_S = 5.0
_LOOK_S = 2.0  # between two looks whether a node is stuck
_LOW_PORTS = (20000, 32000)


@dataclass(frozen=True)
class Kind:
    """What the kit asks of the program behind a broker; README.md in this folder says it in full.

    `prepare(settings)` writes what the program reads at its start, and returns the command line
    that runs it in the foreground; `up_s` and `stop_s` are s at most until it takes logins, and
    until it has ended in good order. What has it know its accounts as they are in the files is
    `Broker.reload`: whoever was removed or changed is out, everybody else stays connected.
    """

    prepare: Callable[[Settings], list[str]]
    up_s: float = 30.0  # far more than it takes, also on a busy machine
    stop_s: float = 5.0


_KINDS = {
    "mosquitto": Kind(mosquitto.prepare),
    "embedded": Kind(embedded.prepare),
    RABBITMQ: Kind(rabbitmq.prepare, 120.0, 60.0),
}


def open_broker(settings: Settings) -> Broker:
    """The broker of a folder, running or not."""
    if settings.given:
        return Elsewhere(settings)
    return Nodes(settings) if settings.hosts else Broker(settings)


class Broker:
    """The process behind one folder; it outlives this object unless `stop` or `kill` is called."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, wait_s: float | None = None, log: bool = True) -> None:
        """Start it, and return when it accepts the kit's login.

        With `log` its output goes to `broker.log` in the folder, otherwise to our stderr.
        Raises `KitError` (NO_BROKER) when it runs already, its port is taken, the program is
        missing or too old, or it does not come up within `wait_s` seconds (as its kind needs).
        """
        with locked(self.settings.folder / SYNC):  # before it is up, SIGHUP would end it
            kind = _KINDS[self.settings.kind]
            lock = self._claim()
            self._child = None
            try:
                try:
                    command = kind.prepare(self.settings)
                    check_port(self.settings)
                    with interrupt.deferred():  # in the midst of a fork the child would be lost
                        self._child = self._spawn(command, lock, log)
                        os.write(lock, b"%d\n" % self._child.pid)
                finally:
                    os.close(lock)  # the child has it now
                self._wait_until_up(self._child, kind.up_s if wait_s is None else wait_s)
            except BaseException:
                if self._child is not None:
                    self._child.kill()  # its number may not have been noted
                    self._gone(_KILL_S)
                raise

    def wait(self) -> int | None:
        """Wait for the end of a broker that this object started; its exit code, or None for one
        that has to be started again."""
        assert self._child is not None, "start() comes first"
        return self._child.wait()

    def running(self) -> bool:
        """Whether the broker of this folder runs, whoever started it."""
        return self._here()

    def _here(self) -> bool:
        """Whether its process runs on this machine."""
        self._reap()
        try:
            lock = try_lock(self._pid_file, shared=True)
        except FileNotFoundError:
            return False
        if lock is not None:
            os.close(lock)
        return lock is None

    def pid(self) -> int | None:
        """Process id of the running broker, None when it does not run.

        Raises `KitError` (NO_BROKER) when the one that started it was killed before it knew.
        """
        for _ in range(50):
            if not self._here():
                return None
            number = self._pid_file.read_bytes().strip()
            if number:
                return int(number)
            time.sleep(0.02)  # it is being started this moment
        starting = try_lock(self.settings.folder / SYNC)
        if starting is None:
            return None
        os.close(starting)
        raise KitError(
            f"The broker of {self.settings.folder} runs, and whoever started it was killed before "
            f"its process was noted. End the one that holds {self._pid_file}; lsof names it.",
            NO_BROKER,
        )

    def signal(self, number: int) -> bool:
        """Send the running broker a signal; False when it does not run."""
        pid = self.pid()
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def reload(self) -> bool:
        """Have a running broker read its accounts again; False when none runs."""
        pid = self.pid()
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGHUP)
                return True
        return False

    def stop(self) -> None:
        """End it in good order, or by force when that takes too long. Nothing to do when it is not
        up."""
        if self.signal(signal.SIGTERM) and not self._gone(_KINDS[self.settings.kind].stop_s):
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self._gone(_KILL_S)

    @property
    def _pid_file(self) -> Path:
        return self.settings.folder / (PID + _of_node(self.settings))

    def _gone(self, within_s: float) -> bool:
        end = time.monotonic() + within_s
        while self._here():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def _reap(self) -> None:
        if self._child is not None:
            self._child.poll()

    def _claim(self) -> int:
        """The lock of the running broker, for the one that we are about to start."""
        folder = self.settings.folder
        for _ in range(20):
            lock = try_lock(self._pid_file)
            if lock is not None:
                os.ftruncate(lock, 0)
                return lock
            time.sleep(0.01)  # perhaps somebody only asked whether it runs
        raise KitError(
            f"The broker of {folder} runs already. How is it? limpet broker check {folder}",
            NO_BROKER,
        )

    def _spawn(self, command: list[str], lock: int, log: bool) -> subprocess.Popen[bytes]:
        folder, output = self.settings.folder, None
        if log:
            output = os.open(log_of(self.settings), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is for us; we tell it what to do
                cwd=folder,
            )
        finally:
            if output is not None:
                os.close(output)

    def _wait_until_up(self, child: subprocess.Popen[bytes], wait_s: float) -> None:
        _wait_until_up(self.settings, child, wait_s)


class Nodes(Broker):
    """RabbitMQ's nodes. One of them can be started and ended here; the broker runs when any lets
    the kit in, and any can be told the accounts."""

    def running(self) -> bool:
        """Whether a node lets the kit in."""
        settings = self.settings
        account = settings.kit_accounts[-1]
        try:
            return client.login(settings, account, settings.kit_password()) == connect.ACCEPTED
        except KitError:
            return False

    def wait(self) -> int | None:
        """The same; a node that is stuck (`stuck.py`) is ended here, and gives None."""
        assert self._child is not None, "start() comes first"
        stuck = Stuck(self.settings)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._child.wait(_LOOK_S)
            if stuck.look():
                self.stop()
                return None

    def _wait_until_up(self, child: subprocess.Popen[bytes], wait_s: float) -> None:
        end = time.monotonic() + wait_s
        _wait_until_up(self.settings.alone, child, wait_s)
        while True:  # it takes accounts a moment later than logins
            try:
                return rabbitmq_api.apply(self.settings.alone, started=True)
            except KitError:
                if child.poll() is not None or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def reload(self) -> bool:
        """Tell the nodes what changed in the accounts; False when none runs."""
        try:
            rabbitmq_api.apply(self.settings)
        except rabbitmq_api.NoNode:
            return False
        return True


class Elsewhere(Broker):
    """A broker that is not ours to run: it runs when it lets the kit in."""

    def start(self, wait_s: float | None = None, log: bool = True) -> None:
        """Starts nothing; raises `KitError` (NO_BROKER) when it cannot be used, and why."""
        with client.KitClient(self.settings, wait_s or client.TIMEOUT_S):
            pass

    def running(self) -> bool:
        """Whether it lets the kit in."""
        with contextlib.suppress(KitError):
            self.start()
            return True
        return False

    def pid(self) -> int | None:
        """None: it is no process of ours."""
        return None

    def stop(self) -> None:
        """Ends nothing."""


def _wait_until_up(settings: Settings, child: subprocess.Popen[bytes], wait_s: float) -> None:
    """Return when it accepts the kit's login; `KitError` when it ends before, or takes longer."""
    kit, end = settings.kit_accounts[-1], time.monotonic() + wait_s
    while True:
        try:
            if client.login(settings, kit, settings.kit_password(), 2.0) == connect.ACCEPTED:
                return
            words = "it refuses the kit's own account"
        except KitError as e:
            words = str(e)
        if child.poll() is not None:
            words = f"it ended with code {child.returncode}"
            break
        if time.monotonic() > end:
            break
        time.sleep(0.03)
    raise KitError(
        f"The broker of {settings.folder} did not come up: {words}. {_last_words(settings)}",
        NO_BROKER,
    )


def sync(
    settings: Settings,
    devices: Iterable[Account],
    force: bool = False,
    gone: Iterable[str] = (),
    at_once: bool = False,
    fresh: Iterable[Secret] = (),
) -> bool:
    """Make these the accounts of the broker, besides the kit's own; one export at a time.

    `gone` are names of accounts that are known to end with this export. Reloads are a second
    apart, so that many who export share one; `at_once` does not wait (somebody is locked out).
    `fresh` are shared keys that the broker's files do not hold yet.

    True when a running broker was seen to have taken them: an account drawn for this export can
    log in. False when no broker runs; the files are in place for its start. Raises `KitError`
    when the export is refused (`export.Export.write`) or a running broker does not take it.
    """
    folder = settings.folder
    with locked(folder / SYNC):
        if not at_once:
            time.sleep(_until_next(folder))
        before = read_passwords(folder, [*settings.kit_accounts, settings.home_account])
        kit = kit_logins(settings, settings.kit_password(), before)
        export = Export(folder, [*kit, *devices])
        if not export.changed and not export.leaving and _has_taken(settings):
            return True  # somebody's export a moment ago had ours in it
        probe, password = accounts.draw_probe(settings.form)
        leaving = [name for name, account in export.leaving.items() if _stays(account)]
        closing = [Account(name, settings.verifier(password), "") for name in leaving]
        export.write([probe, *closing], force, gone, fresh)
        if not _taken(settings, probe.name, password):
            return False
        if leaving:
            for name in leaving:
                client.login(settings, name, password)
            export.write([probe], force, [*gone, *leaving])
        return True


def _stays(leaving: Account) -> bool:
    """Whether its live session outlives its key or certificate: a login under its name, and so
    with its client id, ends it. Also that of an export that was cut before it."""
    return keyed.is_keyed(leaving.verifier) or not leaving.acl


def _until_next(folder: Path) -> float:
    """Seconds until the broker may be asked to read its accounts again."""
    try:
        since = time.time() - (folder / TAKEN).stat().st_mtime
    except FileNotFoundError:
        return 0.0
    return APART_S - since if 0 <= since < APART_S else 0.0  # the clock may have been set


def _has_taken(settings: Settings) -> bool:
    """Whether the broker that runs now was seen to have read the files as they are."""
    if settings.hosts:  # nodes elsewhere: they are asked each time
        return False
    try:
        return (settings.folder / TAKEN).read_text("ascii") == _export(settings)
    except FileNotFoundError:
        return False


def _export(settings: Settings) -> str:
    """What tells an export, and the broker that reads it, from every other."""
    files = [(settings.folder / name).stat() for name in (PASSWORDS, ACL)]
    written = " ".join(f"{file.st_ino} {file.st_mtime_ns}" for file in files)
    return f"{Broker(settings).pid()} {written}\n"


def _taken(settings: Settings, account: str, password: Secret) -> bool:
    """Have the broker read its files until the probe account gets in; False when none runs."""
    broker = open_broker(settings)
    end = time.monotonic() + TAKEN_S
    pause = 0.005
    while broker.reload():
        # A signal that came while it was starting may have been lost, so it is sent again. Nodes
        # that had many accounts to take may have used the time up: they are asked all the same.
        again = time.monotonic() + 2.0
        while True:
            try:
                if client.login(settings, account, password) == connect.ACCEPTED:
                    write_private(settings.folder / TAKEN, _export(settings).encode())
                    return True
                words = "it refuses an account of this export."
            except KitError as e:
                words = str(e)
            if time.monotonic() >= again:
                break
            time.sleep(pause)
            pause = min(pause * 2, 0.2)
        if time.monotonic() >= end:
            raise KitError(f"The broker did not take the new accounts: {words}", NO_BROKER)
    return False


def log_of(settings: Settings) -> Path:
    """The file that the output of a broker in the background goes to."""
    return settings.folder / (LOG + _of_node(settings))


def _of_node(settings: Settings) -> str:
    """What tells files of the nodes apart whose folder is one and the same."""
    return f".{settings.node + 1}" if settings.node else ""


def free_port(wanted: int = 0, count: int = 1) -> int:
    """A TCP port of loopback that nobody listens on right now: `wanted` where that is so.

    With `count` the next ones are free as well. Otherwise one from below those of outgoing
    connections, of which one might take it until it is used, or while a broker is down.
    """
    with contextlib.ExitStack() as stack:
        first = wanted or random.randrange(*_LOW_PORTS)
        try:
            for port in range(first, first + count):
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                probe.listen()
        except (OSError, OverflowError):
            return free_port(count=count)
        return first


def check_port(settings: Settings) -> None:
    """`KitError` when the broker could not listen where it should."""
    if settings.kit_port != settings.port:
        _check_port(settings.kit_address, settings.kit_port)
    for port in settings.ports:
        _check_port(settings.bound if settings.hosts else settings.listen, port)


def _check_port(listen: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen, port))
            probe.listen()
        except OSError as e:
            words = {
                "EADDRINUSE": "is taken by another program. Stop that, or choose another port "
                "(limpet broker init ... --port N)",
                "EACCES": "is not allowed for this user. Choose one from 1024 on",
                "EADDRNOTAVAIL": f"cannot be opened: {listen} is no address of this "
                "machine any more",
            }.get(errno.errorcode.get(e.errno or 0, ""), f"cannot be opened: {e.strerror}")
            raise KitError(f"Port {port} {words}.", NO_BROKER) from None


def _last_words(settings: Settings) -> str:
    """What the broker said last, to be read beside an error."""
    try:
        lines = log_of(settings).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return f"It said: {printable(lines[-1])}" if lines else ""
