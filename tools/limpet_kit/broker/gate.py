"""The door of the embedded broker: TLS, login, one connection an account; then amqtt takes over.

amqtt acts on a CONNECT before it has looked at the password (`engine.py`), so the gate reads
that packet itself, and hands amqtt one of its own making: account as client id, clean session,
no password, a will only where the account may publish it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from pathlib import Path

from amqtt.adapters import ReaderAdapter, StreamWriterAdapter

from ..secret import Secret
from . import accounts, connect, export, rules
from .accounts import Account
from .engine import LISTENER, Engine

CONNECT_S = 30  # from the end of the handshake to the last byte of CONNECT
TAKEOVER_S = 10  # for the old connection of an account to be gone
LARGEST = 131072  # bytes of one read, that is of one payload
log = logging.getLogger("limpet")


class Gate:
    """Keeps the accounts and the live connections; `visit` serves one connection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._accounts = export.read(folder)
        self._live: dict[str, _Visit] = {}
        self._stranger = accounts.verifier(Secret(b"nobody"))
        self.engine = Engine(self._accounts_get)

    def _accounts_get(self, name: str) -> Account | None:
        return self._accounts.get(name)

    def reload(self) -> None:
        """Read the files again; whoever was removed or changed is out at once."""
        before, self._accounts = self._accounts, export.read(self._folder)
        for name, visit in list(self._live.items()):
            if self._accounts.get(name) != before.get(name):
                log.info("account %s was removed or changed: its session ends", name)
                visit.end()
        log.info("%d accounts", len(self._accounts))

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first byte to its end; never raises for what a client does."""
        peer = str(writer.get_extra_info("peername", ("?",))[0])
        try:
            said = await self._login(reader, writer, peer)
            if said and said.account:
                await self._serve(said, said.account, reader, writer, peer)
        except (OSError, EOFError, asyncio.TimeoutError):
            log.info("%s left before it was served", peer)
        finally:
            writer.transport.abort()

    async def _login(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> connect.Connect | None:
        try:
            packet = await asyncio.wait_for(connect.read(reader), CONNECT_S)
            said = connect.parse(packet)
        except connect.Malformed:
            log.info("%s sent no valid CONNECT", peer)
            return None
        except connect.OtherProtocol:
            log.info("%s speaks another version than MQTT 3.1.1", peer)
            code = connect.BAD_PROTOCOL
        else:
            if self._knows(said):
                return said
            log.info("%s refused: wrong account or password", peer)
            code = connect.NOT_AUTHORISED
        writer.write(connect.connack(code))
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)
        return None

    def _knows(self, said: connect.Connect) -> bool:
        account = self._accounts.get(said.account or "")
        password = said.password.reveal() if said.password else b""
        # The same work for a stranger, so that time does not tell which accounts exist.
        right = accounts.fits(password, account.verifier if account else self._stranger)
        return account is not None and right

    async def _serve(
        self,
        said: connect.Connect,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
    ) -> None:
        while name in self._live:  # its will and its rest come before the new connection
            self._live[name].end()
            await asyncio.wait_for(self._live[name].ended.wait(), TAKEOVER_S)
        account = self._accounts.get(name)
        if account is None:
            return
        will = said.will
        if will and not rules.may_write(account.acl, will.topic):
            log.info("the will of account %s is not allowed and was dropped", name)
            will = None
        ours = replace(said, password=None, client_id=name, clean=True, keepalive=0, will=will)
        visit = self._live[name] = _Visit(connect.encode(ours), said.keepalive, reader, writer)
        log.info("%s is account %s", peer, name)
        try:
            await self.engine.external_connected(visit, StreamWriterAdapter(writer), LISTENER)
        finally:
            del self._live[name]
            visit.ended.set()
            log.info("account %s left", name)


class _Visit(ReaderAdapter):  # type: ignore[misc]
    """What amqtt reads of one connection: our CONNECT, then the client's packets while it lives.

    A client that is silent for one and a half keep-alive times (MQTT 3.1.1, section 3.1.2.10), or
    sends more than `LARGEST`, has ended.
    """

    def __init__(
        self,
        first: bytes,
        keepalive: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._first = first
        self._patience = keepalive * 1.5 if keepalive else None
        self._reader = reader
        self._writer = writer
        self._over = False
        self.ended = asyncio.Event()

    def end(self) -> None:
        """Cut the connection."""
        self._over = True
        self._writer.transport.abort()

    async def read(self, n: int = -1) -> bytes:
        """Exactly `n` bytes; ConnectionResetError when the connection is over."""
        if self._first:
            taken, self._first = self._first[:n], self._first[n:]
            return taken
        if n > LARGEST:
            log.info("a message of %d bytes is too large: the connection ends", n)
            self.end()
        if self._over:
            raise ConnectionResetError
        try:
            return await asyncio.wait_for(self._reader.readexactly(n), self._patience)
        except asyncio.TimeoutError:
            log.info("no sign of life within one and a half keep-alive times")
            self.end()
            raise ConnectionResetError from None
        except OSError:
            self._over = True
            raise ConnectionResetError from None

    def feed_eof(self) -> None:
        """Part of amqtt's interface."""
        self._over = True
