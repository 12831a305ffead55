"""Serial ports: which one is meant, and why one cannot be opened, in words."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

from serial.tools import list_ports

from . import boards, sim
from .console import printable
from .errors import NO_BOARD, REFUSED, KitError

SIM = "sim:"
_BRIDGE = b"limpet_kit.sim.bridge"  # has its own board's port open


def resolve(port: str) -> str:
    """The device path behind `port`: a path, `COM3`, or `sim:NAME`.

    Raises `KitError` for a network port: enrolment would send secrets through it in clear.
    """
    if port.startswith(SIM):
        name = port[len(SIM) :]
        board = sim.find(name)
        if board is None or not board.running:
            raise KitError(
                f"There is no simulated board {printable(name, 40)!r} running. Start it with: "
                f"limpet sim start {printable(name, 40)}",
                NO_BOARD,
            )
        return str(board.device)
    if "://" in port:
        raise KitError(
            "Boards are enrolled by cable only: a network port would carry secrets in clear. "
            "Plug the board into this machine.",
            REFUSED,
        )
    return port


def usb_id(port: Any) -> str:
    """`vvvv:pppp` of one of pyserial's ports; empty where it is none of USB."""
    return f"{port.vid:04x}:{port.pid or 0:04x}" if port.vid is not None else ""


def of_boards() -> list[str]:
    """The serial ports at which, by its USB id, a board is that has a definition."""
    known = {usb for board in boards.everyone() for usb in board.usb}
    return [port.device for port in list_ports.comports() if usb_id(port) in known]


def is_there(port: str) -> bool:
    """Whether there is such a port; a simulated board that does not run is there too."""
    if port.startswith(SIM):
        return True
    if os.name == "posix":
        return Path(port).exists()
    return any(found.device == port for found in list_ports.comports())


def simulated(device: str) -> bool:
    """Whether one of our own simulated boards is behind this device path."""
    real = os.path.realpath(device)
    return any(os.path.realpath(board.device) == real for board in sim.all() if board.running)


def pull_reset(device: str, port: Any) -> bool:
    """Reset the board by the control lines of its open port, as far as they are wired to it.

    On an ESP32 RTS pulls its reset, DTR its boot mode; on an RP2 nothing is. False where the port
    has no such lines. A simulated ESP32's line is a signal: a pseudo-terminal has none.
    """
    real = os.path.realpath(device)
    for board in sim.all():
        if board.running and os.path.realpath(board.device) == real:
            return board.pull_reset()
    try:
        port.dtr = False
        port.rts = True
        time.sleep(0.1)
        port.rts = False
    except OSError:
        return False
    return True


def check(device: str, port: str) -> None:
    """`KitError` when there is no such port; Windows knows its ports by name only."""
    if os.name == "posix" and not Path(device).exists():
        raise KitError(
            f"There is no port {port}. Is the board plugged in, with a cable that carries data? "
            "`limpet status` lists what is there.",
            NO_BOARD,
        )


def ready(device: str, port: str) -> None:
    """`KitError` when the port is missing, not allowed or in use."""
    check(device, port)
    if holder(device) or not os.access(device, os.R_OK | os.W_OK):
        raise why_not(device, port)


def why_not(device: str, port: str) -> KitError:
    """Why this port did not open, and what to do about it."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except PermissionError:
        words = f"You may not open {port}. {_leave(_group(device))}"
    except OSError as e:
        if e.errno == errno.EBUSY:
            words = _busy(device, port)
        else:
            words = f"{port} cannot be opened: {e.strerror}. Plug the board in again."
    else:
        words = _busy(device, port) if holder(device) else f"{port} is not a serial port."
    return KitError(words, NO_BOARD)


def holder(device: str) -> str | None:
    """Another process that has the device open, as `name (process 123)`; Linux only."""
    real = os.path.realpath(device)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.name == str(os.getpid()) or _BRIDGE in (folder / "cmdline").read_bytes():
                continue
            if any(os.path.realpath(fd) == real for fd in (folder / "fd").iterdir()):
                name = printable((folder / "comm").read_text().strip(), 40)
                return f"{name} (process {folder.name})"
        except OSError:
            continue  # gone, or not ours to look at
    return None


def _busy(device: str, port: str) -> str:
    by = holder(device)
    return f"{port} is in use{f' by {by}' if by else ' by another program'}. Close that first."


def _group(device: str) -> str:
    import grp

    try:
        return grp.getgrgid(os.stat(device).st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"


def _leave(group: str) -> str:
    """How to be allowed to open it: its group, or a rule of udev where only root may."""
    if group != "root":
        return f"Join its group: sudo usermod -aG {group} $USER, then log in again."
    return (
        "Let udev give it to who sits here, then plug it in again: "
        """echo 'SUBSYSTEM=="tty", TAG+="uaccess"' | sudo tee /etc/udev/rules.d/70-limpet.rules"""
    )
