"""The board's own verdict: the device library on the real MicroPython.

It goes as far as a login goes; in the place of CONNECT it says MQTT's DISCONNECT, two bytes.
"""

from __future__ import annotations

import json
import os
import subprocess

from .. import micropython, paths
from .look import TIMEOUT_S

# One handshake as limpet/link.py drives it: with the first write.
_PROGRAM = """
import json, select, socket, sys, time
from limpet.errors import LimpetError
from limpet.trust import Trust
anchors, host, address, port = json.loads(sys.stdin.readline())
answer = None
raw = socket.socket(*socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM)[0][:2])
try:
    trust = Trust([bytes.fromhex(der) for der in anchors], host)
    raw.connect(socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM)[0][-1])
    raw.setblocking(False)
    stream = trust.wrap(raw)
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    end = time.time() + 10
    try:
        while stream.write(b"\\xe0\\0") is None:
            if time.time() > end:
                raise LimpetError("DEADLINE", "the server did not finish the handshake")
            poll.poll(1000)
    except (OSError, ValueError) as e:
        raise trust.failure(e)
except LimpetError as e:
    answer = [e.code, str(e)]
except OSError as e:
    answer = ["CONNECT", str(e)]
print(json.dumps(answer))
"""


def verdict(host: str, address: str, port: int, anchors: list[bytes]) -> tuple[str, str] | None:
    """None when a board with these anchors (DER) would log in, otherwise its code and words.

    `KitError` where there is no MicroPython for this machine.
    """
    given = json.dumps([[der.hex() for der in anchors], host, address, port])
    library = os.pathsep.join([str(paths.data("lib")), ".frozen"])
    try:
        done = subprocess.run(
            [micropython.require(), "-X", "heapsize=1m", "-c", _PROGRAM],
            input=given + "\n",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=3 * TIMEOUT_S,
            env={**os.environ, "MICROPYPATH": library},
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return "DEADLINE", "the server did not finish the handshake"
    except ValueError:
        return "FAILED", f"the check itself failed: {done.stderr.strip()[-200:]}"
    return (str(answer[0]), str(answer[1])) if answer else None
