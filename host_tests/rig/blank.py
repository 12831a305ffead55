"""Boards without MicroPython: a boot ROM that esptool talks to, a drive that takes a UF2 file.

When the whole image has arrived, the port becomes that of a simulated board, as a real board would
start what it was given. No hardware.
"""

import contextlib
import errno
import hashlib
import json
import os
import random
import select
import struct
import termios
import threading
import time

import pytest
from esp32_mock_bootloader import server as mock
from limpet_kit import boards, firmware, sim

__all__ = ["blank_board", "esp_image", "uf2_image"]

_XIP = 0x10000000


def part(chip, size=3000, flash_code=2):
    """An image as the boot ROM takes it: one segment, checksum, SHA-256."""
    body = random.Random(size).randbytes(size)  # as little to be compressed as a real one
    head = struct.pack("<BBBBI", 0xE9, 1, 0, flash_code << 4, 0x40080000) + bytes(4)
    head += struct.pack("<H", firmware._CHIP_IDS[chip]) + bytes(9) + b"\1"
    image = head + struct.pack("<II", 0x3FFB0000, len(body)) + body
    image += bytes(15 - len(image) % 16)
    checksum = 0xEF
    for byte in body:
        checksum ^= byte
    image += bytes([checksum])
    return image + hashlib.sha256(image).digest()


def esp_image(board, chip=None, size=9000, flash_code=2):
    """Boot loader and application for a board; `flash_code` 2 is 4 MiB."""
    chip = chip or board.boot.chip
    first = part(chip, flash_code=flash_code)
    gap = 0x10000 - board.boot.offset - len(first)
    return first + b"\xff" * gap + part(chip, size, flash_code)


def uf2_image(board, count=40, family=None):
    """A UF2 file of `count` blocks."""
    blocks = []
    for number in range(count):
        head = struct.pack(
            "<8I",
            0x0A324655,
            0x9E5D5157,
            0x2000,
            _XIP + 256 * number,
            256,
            number,
            count,
            family or board.boot.family,
        )
        content = bytes([number & 255]) * 256 + bytes(220)
        blocks.append(head + content + struct.pack("<I", 0x0AB16F30))
    return b"".join(blocks)


class Wire:
    """A pseudo-terminal as the mock wants its transport; one session lasts until the port is
    closed, as a board is reset then."""

    def __init__(self):
        self.master, slave = os.openpty()
        self.path = os.ttyname(slave)
        os.close(slave)
        self._talked = False

    def set_timeout(self, timeout):
        pass

    def recv(self, size):
        if not select.select([self.master], [], [], 0.05)[0]:
            raise TimeoutError
        try:
            data = os.read(self.master, size)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            if self._talked:
                self._talked = False
                return b""
            time.sleep(0.01)
            raise TimeoutError from None
        self._talked = True
        return data

    def sendall(self, data):
        os.write(self.master, data)

    def close(self):
        """The end of a session: what nobody read is gone."""
        with contextlib.suppress(OSError, termios.error):  # its cable was pulled
            termios.tcflush(self.master, termios.TCIOFLUSH)

    def ignore_eof_for_disconnect(self):
        return False


class Flash(mock.FlashImage):
    """The mock's flash; `on_block` is called before each block with the number of those before."""

    def __init__(self):
        super().__init__()
        self.written = 0
        self.on_block = lambda written: None

    def write_defl_block(self, payload):
        self.on_block(self.written)
        super().write_defl_block(payload)
        self.written += 1

    def write_plain_block(self, payload):
        self.on_block(self.written)
        super().write_plain_block(payload)
        self.written += 1


class BlankBoard:
    """A board of this definition at `port`, blank; it becomes `board` when `image` is in it."""

    def __init__(self, folder, name, image):
        self.definition = boards.load(name)
        self.port = folder / "tty-of-board"
        self.drive = folder / "drive ä"
        self.image = image
        self.flash = Flash()
        self.became = threading.Event()
        self._wire = None
        self._plugged = threading.Event()
        self._plugged.set()
        self._stop = threading.Event()
        self._board = _simulated(self.definition)
        is_esp = self.definition.boot.method == "esptool"
        self._thread = threading.Thread(target=self._esp if is_esp else self._rp2, daemon=True)
        if not is_esp:
            self.hold_bootsel()
        self._thread.start()
        while is_esp and not self.port.exists():
            time.sleep(0.005)

    def hold_bootsel(self):
        """The drive appears."""
        self.drive.mkdir(exist_ok=True)
        (self.drive / "INFO_UF2.TXT").write_text(
            f"UF2 Bootloader v3.0\r\nModel: x\r\nBoard-ID: {self.definition.boot.drive}\r\n"
        )

    def pull(self):
        """Its cable is pulled out."""
        self._plugged.clear()
        self.port.unlink()
        wire, self._wire = self._wire, None
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, wire.master)  # not closed: its number must not become another file's
        os.close(nothing)

    def plug(self):
        """And in again."""
        self._plugged.set()
        while not self.port.exists():
            time.sleep(0.005)

    def when_off(self, running):
        """The drive appears when this simulated board has gone."""

        def wait():
            if running.wait_off(20):
                self.port.unlink()
                self.hold_bootsel()

        threading.Thread(target=wait, daemon=True).start()

    def _esp(self):
        start = self.definition.boot.offset
        while not self._stop.is_set():
            if not self._plugged.wait(0.05):
                continue
            if self._wire is None:
                self._wire = wire = Wire()
                self._link(wire.path)
            connection = mock.BootloaderConnection(pty=wire)
            chip = self.definition.boot.chip
            mock.handle_client(
                connection, self._stop, chip, flash=self.flash, exit_on_disconnect=True
            )
            if self.flash.data[start : start + len(self.image)] == self.image:
                self._become()
                return

    def _rp2(self):
        while not self._stop.is_set():
            for file in self.drive.glob("*.uf2"):
                if file.stat().st_size == len(self.image) and file.read_bytes() == self.image:
                    file.unlink()
                    (self.drive / "INFO_UF2.TXT").unlink()
                    self._become()
                    return
            time.sleep(0.02)

    def _become(self):
        self._link(sim.start(self._board.name).device)
        self.became.set()

    def _link(self, target):
        new = self.port.with_suffix(".new")
        new.symlink_to(target)
        os.replace(new, self.port)

    def end(self):
        self._stop.set()
        self._thread.join()
        self._board.kill()


def _simulated(definition):
    """A simulated board, switched off, that calls itself as `definition` says."""
    made = sim.start("taker", "SIM_RP2" if definition.port == "rp2" else "SIM_ESP32")
    made.stop()
    file = made.folder / "board.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": definition.machine}))
    return made


@pytest.fixture
def blank_board(home, sim_factory, tmp_path):
    """`blank_board(name, image)` -> BlankBoard."""
    made = []

    def factory(name, image):
        made.append(BlankBoard(tmp_path, name, image))
        return made[-1]

    yield factory
    for board in made:
        board.end()
