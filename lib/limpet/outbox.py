"""QoS 1 messages that survive a power cut: on the flash until the server has acknowledged them.

One small file a message: LittleFS keeps it in its folder's own block, and a file that was closed
is whole or not there. Measured: 100 messages that come and go cost 8 erases and 363 programs. They
go out one at a time, so that a cut doubles at most the one that was on its way.
"""

import asyncio
import os

from micropython import const

from .errors import LimpetError

_RETRY_MS = const(1_000)  # while the client's own queue is full


class Outbox:
    """`async with client, outbox:` and then `outbox.put("temperature", b"21.5")`.

    `limit` messages are kept; one more takes the place of the oldest, or with `drop=False` raises
    LimpetError FULL. `log` takes a line of text.
    """

    def __init__(self, client, folder="/outbox", limit=64, drop=True, log=None):
        self._client = client
        self._folder = folder
        self._limit = limit
        self._drop = drop
        self._log = log or (lambda line: None)
        self._keys = None  # numbers of the messages on the flash, oldest first
        self._next = 1
        self._came = asyncio.Event()
        self._message = None  # the one on its way, and its number
        self._key = 0
        self._task = None
        self.dropped = 0

    def __len__(self):
        return len(self._load())

    def put(self, topic, payload, retain=False):
        """Keep a message; it is safe when this returns. Topics as in Client.publish.

        Raises LimpetError FULL, OSError when the flash fails, ValueError for a topic of more than
        255 bytes.
        """
        topic = topic.encode()
        head = bytes((1 if retain else 0, len(topic)))  # before an older one goes
        data = head + topic + (payload.encode() if isinstance(payload, str) else payload)
        keys = self._load()
        if len(keys) >= self._limit:
            if not self._drop:
                raise LimpetError("FULL", len(keys))
            self._remove(keys[0])
            self.dropped += 1
        with open(self._path(self._next), "wb") as f:
            f.write(data)
        keys.append(self._next)
        self._next += 1
        self._came.set()

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass

    async def _run(self):
        while True:
            keys = self._load()
            if not keys:
                self._came.clear()
                await self._came.wait()
                continue
            try:
                await self._send(keys[0])
            except Exception as e:  # also no memory: it is tried again
                self._log("the outbox waits: %s" % e)
                await asyncio.sleep_ms(_RETRY_MS)

    async def _send(self, key):
        """Have one message acknowledged, then forget it."""
        if self._key != key or self._message.failure:
            found = self._read(key)
            if found:
                try:
                    self._message = self._client.publish_nowait(*found)
                    self._key = key
                except ValueError as e:  # and never can be
                    self._log("a message of the outbox cannot be sent: %s" % e)
        if self._key == key:
            await self._message.wait()
        if key in self._load():
            self._remove(key)

    def _read(self, key):
        """(topic, payload, QoS, retain), None when it is damaged."""
        try:
            with open(self._path(key), "rb") as f:
                data = f.read()
            end = 2 + data[1]
            return data[2:end].decode(), data[end:], 1, bool(data[0])
        except (OSError, IndexError, UnicodeError) as e:
            self._log("a message of the outbox is damaged: %s" % e)
            return None

    def _remove(self, key):
        os.remove(self._path(key))
        self._keys.remove(key)

    def _load(self):
        if self._keys is None:
            try:
                os.mkdir(self._folder)
            except OSError:
                pass  # it is there
            keys = []
            for name in os.listdir(self._folder):
                try:
                    key = int(name[:-4], 16)
                except ValueError:
                    continue  # not ours
                if name == "%08x.msg" % key:
                    keys.append(key)
            self._keys = sorted(keys)
            if self._keys:
                self._next = self._keys[-1] + 1
        return self._keys

    def _path(self, key):
        return "%s/%08x.msg" % (self._folder, key)
