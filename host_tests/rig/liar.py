"""A board that is none: a pseudo-terminal behind which Python answers as it likes."""

import os
import re
import select
import threading

from limpet_kit.sim.terminal import open_raw

BANNER = b"raw REPL; CTRL-B to exit\r\n>"


class Liar:
    """Speaks the raw REPL; `answer(code)` gives (what it prints, its traceback), as bytes.

    `answer` may also return None: then nothing is said at all. Code is read in raw-paste mode or
    plain, as mpremote sends it.
    """

    def __init__(self, answer, banner=BANNER):
        self.heard = []
        self._answer = answer
        self._banner = banner
        self._port, self._slave = open_raw()
        self.device = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        os.close(self._port)
        os.close(self._slave)

    def _serve(self):
        typed = b""
        while not self._stop.is_set():
            if not select.select([self._port], [], [], 0.05)[0]:
                continue
            typed += os.read(self._port, 4096)
            while typed:
                if typed.startswith(b"\x05A\x01"):
                    self._say(b"R\x00")  # raw paste is not offered
                    typed = typed[3:]
                elif typed[:1] in b"\r\x03":
                    typed = typed[1:]
                elif typed[:1] == b"\x01":
                    self._say(self._banner)
                    typed = typed[1:]
                elif typed[:1] == b"\x02":
                    typed = typed[1:]
                elif b"\x04" in typed:
                    code, _, typed = typed.partition(b"\x04")
                    self._run(code)
                else:
                    break

    def _run(self, code):
        if not code:
            self._say(b"OK\r\nMPY: soft reboot\r\n" + self._banner)
            return
        self.heard.append(code)
        said = self._answer(code)
        if said is None:
            return
        out, err = said
        self._say(b"OK" + out + b"\x04" + err + b"\x04>")

    def _say(self, data):
        while data and not self._stop.is_set():
            if select.select([], [self._port], [], 0.05)[1]:
                data = data[os.write(self._port, data[:1024]) :]


def function(code):
    """Which function of limpet.enroll this code calls."""
    match = re.search(rb"enroll\.(\w+)\(", code)
    return match[1].decode() if match else ""
