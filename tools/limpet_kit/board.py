"""A board behind its serial port: run code, call a function, move files.

mpremote's transport, inside this process: a child would show the code in its argument list, and
the code holds secrets. What a board sends is untrusted, so every wait has an end, every answer a
largest size, and nothing of it reaches an exception's words.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport
from serial.tools import list_ports

from . import ports
from .console import printable
from .errors import (
    ENROLLED,
    FAILED,
    NO_BOARD,
    NO_NETWORK,
    NO_SPACE,
    REFUSED,
    USAGE,
    KitError,
)

LINE_MAX = 4096  # bytes of an answer (protocols.md 5)
EXEC_S = 10.0
RESET_S = 20.0  # USB boards need 1 to 3 s to come back
_CHUNK = 512  # bytes of a file in one piece of code
_NOISE = 65536  # bytes that a sketch may print while it is being stopped
_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D = b"\x01", b"\x02", b"\x03", b"\x04"
_BANNER = b"raw REPL; CTRL-B to exit\r\n"
_NO_SPACE = errno.ENOSPC  # 28 on every port
_PROGRAMS = ("boot.py", "main.py")  # what a board runs after a reset, in its root
_PARKED = "~off"  # behind their names while it must not
_EXCEPTION = re.compile(r"([A-Z][A-Za-z]+)(?:: (?:\[Errno )?(-?\d+)\b)?")
# Names that MicroPython gives; any other text of the board stays out of our words.
_KINDS = {
    "AttributeError",
    "ImportError",
    "IndexError",
    "KeyError",
    "KeyboardInterrupt",
    "MemoryError",
    "NameError",
    "OSError",
    "RuntimeError",
    "SyntaxError",
    "SystemExit",
    "TypeError",
    "ValueError",
}


class Raised(KitError):
    """Code ended in an exception on the board.

    `kind` is its name where MicroPython has one of that name, else `Exception`; `number` the
    errno of an OSError, else None; `said` its last line, for a debugger and not for a log: what
    a board says may be a secret that it was given.
    """

    def __init__(self, port: str, text: str) -> None:
        lines = text.strip().splitlines()
        self.said = printable(lines[-1]) if lines else ""
        match = _EXCEPTION.match(self.said)
        self.kind = match[1] if match and match[1] in _KINDS else "Exception"
        self.number = int(match[2]) if match and match[2] and self.kind == "OSError" else None
        full = self.number == _NO_SPACE
        words = (
            f"The board at {port} has no room left."
            if full
            else f"The board at {port} failed with {self.kind}"
            + (f" {self.number}." if self.number is not None else ".")
        )
        super().__init__(words, NO_SPACE if full else FAILED)


class NoMicroPython(KitError):
    """Nothing at the port answers as MicroPython does: another program, or none."""


class Silent(KitError):
    """The board stopped answering, or answers without end."""


class Board:
    """A board at its raw prompt, for the length of a `with`; whatever ran on it was stopped.

    `port` is a device path or `sim:NAME`; `simulated` says that one of our own is behind it, which
    no board could claim. Raises `KitError` (NO_BOARD) in words when the port is
    missing, busy, forbidden, or when no MicroPython answers.
    """

    def __init__(self, port: str) -> None:
        self.port = port
        self.device = ports.resolve(port)
        self.simulated = ports.simulated(self.device)
        self._usb_serial = _usb_serial(self.device)
        self._transport: Any = None
        self._wire: _Wire
        self._calm = False  # reset by us, and no program of its own was started since

    def __enter__(self) -> Board:
        self._open()
        try:
            self._enter()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError, KitError):
            if self._transport:
                self._wire.write(b"\r" + _CTRL_B)  # a person finds the friendly prompt
        self._close()

    def exec(self, code: str, timeout_s: float = EXEC_S, most: int = LINE_MAX) -> str:
        """Run code and return what it printed, at most `most` bytes of it.

        Raises `Raised` when the code does, `Silent` when the board does not end within
        `timeout_s` or prints more than it may.
        """
        self._wire.allow(timeout_s, most + LINE_MAX)  # a traceback, prompts, raw-paste windows
        try:
            out, err = self._transport.exec_raw(code, timeout=None)
        except (OSError, TransportError, ValueError):
            raise self._stopped() from None
        if err:
            raise Raised(self.port, err.decode("utf-8", "replace"))
        if len(out) > most:
            raise self._stopped("says more than it may")
        return str(out.decode("utf-8", "replace"))

    def call(
        self, module: str, function: str, *arguments: str | int, timeout_s: float = EXEC_S
    ) -> dict[str, Any]:
        """Call a function of a module on the board that returns one line of JSON, an object.

        Lines before it that are no JSON are left out: ESP-IDF logs into the same wire.
        Its values are what the board claims, of any type and size up to 4 KiB.
        """
        package, _, name = module.rpartition(".")
        load = f"from {package} import {name}" if package else f"import {name}"
        code = f"{load};print({name}.{function}({','.join(map(repr, arguments))}))"
        lines = [x for x in self.exec(code, timeout_s).splitlines() if x.startswith("{")]
        try:
            answer = json.loads(lines[0]) if len(lines) == 1 else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise KitError(f"The board at {self.port} does not answer as Limpet does.", NO_BOARD)
        return answer

    # -- files

    def names(self, folder: str) -> list[str]:
        """The names in a folder, empty when it is missing."""
        code = (
            "import os,json\n"
            f"try: l=os.listdir({folder!r})\n"
            "except OSError: l=[]\n"
            "print(json.dumps(l))"
        )
        try:
            found = json.loads(self.exec(code, most=_NOISE))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise self._stopped("lists its files in an unknown way")
        return found

    def hashes(self, folder: str) -> dict[str, bytes]:
        """Name to SHA-256 of each file in a folder, empty when it is missing."""
        code = (
            "import os,hashlib\nfrom binascii import hexlify\nb=memoryview(bytearray(512))\n"
            f"d={folder!r}\n"
            "try:l=os.ilistdir(d)\n"
            "except OSError:l=()\n"
            "for e in l:\n"
            " if e[1]==0x8000:\n"
            "  h=hashlib.sha256()\n"
            "  with open(d+'/'+e[0],'rb') as f:\n"
            "   while 1:\n"
            "    n=f.readinto(b)\n"
            "    if not n:break\n"
            "    h.update(b[:n])\n"
            "  print(hexlify(h.digest()).decode(),e[0])"
        )
        lines = self.exec(code, timeout_s=60, most=_NOISE).splitlines()
        found = [re.fullmatch("([0-9a-f]{64}) (.+)", line) for line in lines]
        if not all(found):
            raise self._stopped("lists its files in an unknown way")
        return {match[2]: bytes.fromhex(match[1]) for match in found if match}

    def free(self) -> int:
        """Bytes that the file system has left."""
        code = "import os\ns=os.statvfs('/')\nprint(s[1]*s[4] if s[4]<=s[2] else 0)"
        text = self.exec(code).strip()
        if not re.fullmatch("[0-9]{1,10}", text):
            raise self._stopped("does not tell its free space")
        return int(text)

    def put(self, path: str, data: bytes) -> None:
        """Write a file; the old one stays whole until the new one is."""
        new = path + "~"
        self.exec(f"f=open({new!r},'wb');w=f.write")
        try:
            for at in range(0, len(data), _CHUNK):
                self.exec(f"w({data[at : at + _CHUNK]!r})")
            self.exec(f"f.close();import os;os.rename({new!r},{path!r})")
        except Raised:
            with contextlib.suppress(KitError):
                self.exec(f"f.close()\nimport os\nos.remove({new!r})")
            raise

    def get(self, path: str, most: int = 1 << 20) -> bytes:
        """The bytes of a file, at most `most` of them."""
        code = (
            "from binascii import hexlify\n"
            f"with open({path!r},'rb') as f:\n"
            " while 1:\n"
            "  b=f.read(256)\n"
            "  if not b:break\n"
            "  print(hexlify(b).decode())"
        )
        text = self.exec(code, timeout_s=EXEC_S + most / 5000, most=2 * most + most // 64 + 256)
        try:
            return bytes.fromhex("".join(text.split()))
        except ValueError:
            raise self._stopped("sends a file in an unknown way") from None

    def hash(self, path: str) -> bytes | None:
        """SHA-256 of a file, None when it is missing."""
        code = (
            "import hashlib\nfrom binascii import hexlify\nh=hashlib.sha256()\n"
            "b=memoryview(bytearray(512))\n"
            "try:\n"
            f" with open({path!r},'rb') as f:\n"
            "  while 1:\n"
            "   n=f.readinto(b)\n"
            "   if not n:break\n"
            "   h.update(b[:n])\n"
            " print(hexlify(h.digest()).decode())\n"
            "except OSError: print('-')"
        )
        text = self.exec(code, timeout_s=30).strip()
        if text == "-":
            return None
        if not re.fullmatch("[0-9a-f]{64}", text):
            raise self._stopped("answers with something else than a hash")
        return bytes.fromhex(text)

    def remove(self, path: str) -> None:
        """Remove a file or an empty folder; nothing to do when there is none."""
        self.exec(
            f"import os\ntry: os.remove({path!r})\nexcept OSError as e:\n if e.errno!=2:raise"
        )

    def mkdir(self, path: str) -> None:
        """Make a folder and those above it, as far as they are not there."""
        parts = path.strip("/").split("/")
        every = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
        self.exec(
            f"import os\nfor p in {every!r}:\n try: os.mkdir(p)\n"
            " except OSError as e:\n  if e.errno!=17:raise"
        )

    def copy(self, source: str, target: str) -> None:
        """Copy a file on the board."""
        self.exec(
            f"f=open({source!r},'rb');g=open({target!r},'wb')\n"
            "while 1:\n b=f.read(512)\n if not b:break\n g.write(b)\nf.close();g.close()",
            timeout_s=30,
        )

    def swap(self, new: str, path: str) -> None:
        """Give the folder `new` the name `path`; what had it before is removed.

        Two renames: whoever cuts the power between them finds neither, and does it again.
        """
        remove = (
            "import os\ndef r(p):\n for e in list(os.ilistdir(p)):\n  q=p+'/'+e[0]\n"
            "  if e[1]&0x4000:r(q)\n  else:os.remove(q)\n os.rmdir(p)\n"
            f"try:r({path + '~old'!r})\nexcept OSError:pass\n"
        )
        self.exec(remove, timeout_s=60)
        self.exec(
            f"import os\ntry:os.rename({path!r},{path + '~old'!r})\nexcept OSError:pass\n"
            f"os.rename({new!r},{path!r})"
        )
        self.exec(remove, timeout_s=60)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the port to another program meanwhile."""
        self._wire.write(b"\r" + _CTRL_B)
        self._close()
        try:
            yield
        finally:
            self._reopen(RESET_S)
            self._enter()

    # -- resets

    def calm(self, harmless: bytes) -> None:
        """Reset the board unless no program of its own can have started a watchdog.

        A watchdog cannot be stopped and outlives the soft reset: it would reset the board in the
        midst of whatever is done to it. `harmless` is the SHA-256 of a main.py that starts none.
        """
        for attempts_left in (2, 1, 0):
            try:
                if self._calm:
                    return
                self._unpark()  # a kit that was killed may have left them so
                if not self._runs("/boot.py") and self.hash("/main.py") in (None, harmless):
                    return
                self.hard_reset()
            except Silent:  # the watchdog was quicker
                if not attempts_left:
                    raise
                self._reopen(RESET_S)
                self._enter()

    def hard_reset(self) -> None:
        """Reset the board as its button would, and return at its raw prompt.

        Nothing of what was in its memory is left, and neither `boot.py` nor `main.py` was
        started: they have other names meanwhile.
        """
        self._calm = False
        with contextlib.suppress(Raised):  # no room for a name: then they are started, and stopped
            self.exec(
                f"import os\nlimpet_before_reset=1\nfor p in {_PROGRAMS!r}:\n"
                f" if p in os.listdir('/'):os.rename('/'+p,'/'+p+{_PARKED!r})"
            )
            self._calm = True
        self._wire.allow(EXEC_S, _NOISE)
        with contextlib.suppress(OSError, TransportError, KitError):
            self._transport.exec_raw_no_follow("import machine;machine.reset()")
        self._close()
        end = time.monotonic() + RESET_S
        while True:
            try:
                self._open()
                self._enter()
                if self.exec("print('limpet_before_reset' in globals())").strip() == "False":
                    self._unpark()
                    return
            except KitError:
                pass  # a USB port goes and comes again
            self._close()
            if time.monotonic() > end:
                raise self._stopped("did not come back after a reset")
            time.sleep(0.1)
            self._find_again()

    def _unpark(self) -> None:
        """The board's programs have their names again; one that was put there meanwhile stays."""
        self.exec(
            f"import os\nl=os.listdir('/')\nfor p in {_PROGRAMS!r}:\n"
            f" q=p+{_PARKED!r}\n if q in l:\n"
            "  if p in l:os.remove('/'+q)\n  else:os.rename('/'+q,'/'+p)"
        )

    def _runs(self, path: str) -> bool:
        """Whether a program has lines that are no comments; False when it is missing."""
        code = (
            f"try:\n with open({path!r}) as f:print(any(l.strip() and l[0]!='#' for l in f))\n"
            "except OSError:print(False)"
        )
        return self.exec(code).strip() != "False"

    def soft_reset(self, run_main: bool = False) -> None:
        """A fresh interpreter at its raw prompt; with `run_main` the program is started instead.

        After `run_main` the board is not at its prompt any more: only leave the `with`.
        """
        if not run_main:
            self._fresh()
            return
        self._calm = False
        self._wire.allow(EXEC_S, _NOISE)
        try:
            self._wire.write(b"\r" + _CTRL_B)
            self._transport.read_until(1, b">>> ", timeout=None)
            self._wire.write(_CTRL_D)
            self._transport.read_until(1, b"soft reboot", timeout=None)
        except (OSError, TransportError):
            raise self._stopped() from None
        self._close()

    # -- the wire

    def _open(self) -> None:
        ports.check(self.device, self.port)
        try:
            self._transport = SerialTransport(self.device, exclusive=True, timeout=0.1)
        except (TransportError, OSError, ValueError):
            raise ports.why_not(self.device, self.port) from None
        self._transport.is_pty = True  # read_until: wait in read() and not in steps of 10 ms
        self._transport.serial.write_timeout = EXEC_S
        self._wire = self._transport.serial = _Wire(self._transport.serial, self.port)

    def _close(self) -> None:
        if self._transport:
            self._transport.serial = self._wire.serial
            with contextlib.suppress(OSError):  # no modem lines on a pseudo-terminal
                self._transport.close()
            with contextlib.suppress(OSError):
                self._wire.serial.close()
        self._transport = None

    def _enter(self) -> None:
        """To the raw prompt of a fresh interpreter, past whatever runs: by and by less gently."""
        for means, wait_s in (
            (self._knock, 1.0),
            (self._knock_on, 1.5),
            (self._storm, 1.5),
            (self._pull_reset, 3.0),
            (self._pull_reset, 3.0),  # its program was quicker
        ):
            try:
                if not means():
                    continue
                self._wire.allow(wait_s, _NOISE)
                self._wire.write(b"\r" + _CTRL_A)
                self._transport.read_until(1, _BANNER, timeout=None)
                self._fresh()
                return
            except (OSError, TransportError):
                self._reopen(5.0)  # it was reset under our hands: its USB port went
            except Silent:
                continue
        raise NoMicroPython(
            f"No MicroPython answers at {self.port}, or its program does not let go. Press the "
            "board's reset button and run this again at once. If that does not help, or it holds "
            f"no MicroPython yet: limpet flash {self.port}",
            NO_BOARD,
        )

    def _knock(self) -> bool:
        """Ctrl-C, twice: for an idle prompt and for most programs."""
        return self._type_ctrl_c(2, 0.05)

    def _knock_on(self) -> bool:
        """Ctrl-C for a second, for a program that catches it now and then."""
        return self._type_ctrl_c(40, 0.025)

    def _storm(self) -> bool:
        """Ctrl-C without a pause, for one that catches each: the next comes while it does so."""
        return self._type_ctrl_c(100, 0.01, 128)

    def _pull_reset(self) -> bool:
        """Reset by the port's control lines, and Ctrl-C before its program can catch it."""
        return ports.pull_reset(self.device, self._wire.serial) and self._type_ctrl_c(60, 0.03)

    def _type_ctrl_c(self, times: int, pause_s: float, at_once: int = 1) -> bool:
        for _ in range(times):
            self._wire.write(b"\r" + _CTRL_C * at_once)
            time.sleep(pause_s)
            self._wire.drop()
        return True

    def _reopen(self, wait_s: float) -> None:
        """Open the port again, which may come back under another name."""
        self._close()
        end = time.monotonic() + wait_s
        while True:
            self._find_again()
            try:
                return self._open()
            except KitError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def _fresh(self) -> None:
        """Soft reset at the raw prompt: `boot.py` runs, `main.py` does not."""
        self._wire.allow(8.0, _NOISE)
        try:
            self._transport.read_until(1, b">", timeout=None)
            self._wire.write(_CTRL_D)
            self._transport.read_until(1, b"soft reboot\r\n", timeout=None)
            try:
                self._wire.allow(2.0, _NOISE)
                self._transport.read_until(1, _BANNER, timeout=None)
            except Silent:  # boot.py runs on
                self._wire.allow(5.0, _NOISE)
                self._type_ctrl_c(20, 0.05)
                self._wire.write(b"\r" + _CTRL_A)
                self._transport.read_until(1, _BANNER, timeout=None)
        except (OSError, TransportError):
            raise self._stopped() from None
        self._transport.in_raw_repl = True

    def _find_again(self) -> None:
        """The same USB device under another name, when its port went away."""
        if self._usb_serial and not Path(self.device).exists():
            for found in list_ports.comports():
                if found.serial_number == self._usb_serial:
                    self.device = found.device

    def _stopped(self, words: str = "stopped answering") -> Silent:
        return Silent(
            f"The board at {self.port} {words}. Look at its cable and run the same command "
            "again: it goes on where it was.",
            NO_BOARD,
        )


@contextlib.contextmanager
def going_on(board: Board) -> Iterator[None]:
    """What is inside may find that this is not the board that is wanted, or that something lacks:
    its program, which was stopped for that, runs again then."""
    try:
        yield
    except KitError as e:
        if e.code in (ENROLLED, NO_NETWORK, REFUSED, USAGE):
            with contextlib.suppress(OSError, KitError):
                board.soft_reset(run_main=True)
        raise


class _Wire:
    """A serial port in which every read has a deadline and a budget of bytes."""

    def __init__(self, port: serial.Serial, name: str) -> None:
        self.serial = port
        self._name = name
        self._buffer = b""
        self.allow(EXEC_S, LINE_MAX)

    def allow(self, seconds: float, size: int) -> None:
        """From now on wait so long, and take so many bytes."""
        self._end = time.monotonic() + seconds
        self._left = size

    def read(self, size: int = 1) -> bytes:
        """Exactly `size` bytes."""
        while len(self._buffer) < size:
            self._fill()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def inWaiting(self) -> int:
        """Bytes that can be read at once."""
        if time.monotonic() > self._end:
            raise self._silent("stopped answering")
        return len(self._buffer) or int(self.serial.in_waiting)

    def drop(self) -> None:
        """Forget what has arrived so far."""
        self._buffer = b""
        self.serial.reset_input_buffer()

    def write(self, data: bytes) -> None:
        """Write all of it."""
        self.serial.write(data)

    def _fill(self) -> None:
        if time.monotonic() > self._end:
            raise self._silent("stopped answering")
        data = self.serial.read(max(1, min(self.serial.in_waiting, 4096)))
        self._left -= len(data)
        if self._left < 0:
            raise self._silent("does not stop talking")
        self._buffer += data

    def _silent(self, words: str) -> Silent:
        return Silent(f"The board at {self._name} {words}.", NO_BOARD)


def _usb_serial(device: str) -> str | None:
    """The USB serial number behind a port, None where there is none."""
    for found in list_ports.comports():
        if found.device == device:
            return str(found.serial_number) if found.serial_number else None
    return None
