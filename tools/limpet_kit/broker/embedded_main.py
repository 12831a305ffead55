"""`python -m limpet_kit.broker.embedded_main FOLDER`: the embedded broker's process.

SIGHUP reads the accounts again, SIGTERM and SIGINT end it. Logs to stderr, one line an event.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from ..console import printable
from ..errors import KitError
from . import settings
from .gate import Gate

HANDSHAKE_S = 60
log = logging.getLogger("limpet")


class OneLine(logging.Formatter):
    """One printable line a record: no tracebacks, and nothing that a client made up."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        text = printable(record.getMessage(), 300)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text += f" ({type(error).__name__}: {printable(str(error))})"
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}: {text}"


async def serve(chosen: settings.Settings) -> None:
    """Run until a signal says to stop."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.set_exception_handler(_one_line)
    gate = Gate(chosen.folder)
    await gate.engine.start()

    tls = context(chosen.folder)

    def reload() -> None:
        try:
            gate.reload()
            tls.load_cert_chain(chosen.folder / "server.crt", chosen.folder / "server.key")
        except KitError as e:
            log.error("the accounts stay as they were: %s", e)
        except (OSError, ssl.SSLError) as e:
            log.error("the certificate stays as it was: %s", e)

    loop.add_signal_handler(signal.SIGHUP, reload)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(
        gate.visit,
        None if chosen.listen == "::" else chosen.listen,  # asyncio's "::" takes no IPv4
        chosen.port,
        ssl=tls,
        ssl_handshake_timeout=HANDSHAKE_S,
    )
    log.info("embedded broker listens on %s port %d", chosen.listen, chosen.port)
    await stop.wait()
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)  # that it is cancelled is no news
    server.close()
    log.info("embedded broker ends")
    logging.shutdown()
    # amqtt swallows a cancellation now and then, and asyncio would wait for ever (measured: once
    # in about 20 stops under traffic). It keeps nothing that could be lost here.
    os._exit(0)


def context(folder: Path) -> ssl.SSLContext:
    """TLS 1.2 or later with the folder's server certificate; asks clients for none."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(folder / "server.crt", folder / "server.key")
    return made


def _one_line(loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
    error = about.get("exception")
    if not isinstance(error, (OSError, asyncio.CancelledError)):  # a link that broke is no news
        log.warning("%s: %r", about.get("message"), error)


def main(arguments: list[str]) -> int:
    """Run the broker of one folder; the exit code."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)
    os.umask(0o077)
    try:
        asyncio.run(serve(settings.load(Path(arguments[0]))))
    except KitError as e:
        log.error("%s", e)
        return e.code
    except OSError as e:
        log.error("the embedded broker cannot run: %s", e)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
