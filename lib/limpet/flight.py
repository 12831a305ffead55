"""QoS 1 messages from publish to acknowledgement: one queue that outlives every connection."""

import asyncio
from time import ticks_diff

from micropython import const

from .errors import Lost
from .packets import DUP

_FIRST_PID = const(2)  # 1 is SUBSCRIBE's (session.py)
_LAST_PID = const(65535)


class Message:
    """One QoS 1 message of bytes. `pid` is its packet id from the first sending on, 0 before."""

    def __init__(self, topic, payload, flags):
        self.topic = topic
        self.payload = payload
        self.flags = flags
        self.pid = 0
        self.sent_at = 0  # ticks of the last sending
        self.ended = False
        self.failure = None
        self._woken = None

    async def wait(self):
        """Return when the server has acknowledged; raises Lost when the queue dropped it."""
        if not self.ended:
            self._woken = self._woken or asyncio.Event()
            await self._woken.wait()
        if self.failure:
            raise self.failure

    def end(self, failure=None):
        """Wake whoever waits."""
        self.ended = True
        self.failure = failure
        if self._woken:
            self._woken.set()


class Flight:
    """The queue. At most `window` messages are on their way at once, `queue` more may wait.

    They go out in the order in which they came, and again in that order on the next connection,
    so the order of each topic is kept. `policy` is what a publish does when it is full: "wait",
    "raise", or "drop" the oldest that is not on its way.
    """

    def __init__(self, window, queue, policy):
        if policy not in ("wait", "drop", "raise") or window < 1 or queue < 1:
            raise ValueError("policy is wait, drop or raise; window and queue are 1 or more")
        self.window = window
        self._limit = window + queue
        self._policy = policy
        self._messages = []  # oldest first; the first _sent of them are on their way
        self._sent = 0
        self._pid = _FIRST_PID - 1
        self.waiting = 0  # publishes that wait for room; later ones queue up behind them
        self.room = asyncio.Event()
        self.dropped = 0

    def __len__(self):
        return len(self._messages)

    def put(self, message):
        """Queue a message; False when there is no room and the policy is to wait.

        Raises Lost (FULL) when there is none and the policy is to raise.
        """
        messages = self._messages
        if len(messages) >= self._limit or self.waiting:
            if self._policy == "wait":
                return False
            if self._policy == "raise":
                raise Lost("FULL", len(messages))
            self.dropped += 1
            failure = Lost("DROPPED")
            messages.pop(self._sent).end(failure)
        messages.append(message)
        return True

    def add(self, message):
        """Queue a message whatever the limit."""
        self._messages.append(message)

    async def put_later(self, message, then):
        """Wait for room, queue the message, call `then()`, wait for its acknowledgement."""
        self.waiting += 1
        try:
            while len(self._messages) >= self._limit:
                self.room.clear()
                await self.room.wait()
            self._messages.append(message)
        finally:
            self.waiting -= 1
        then()
        await message.wait()

    def next(self, now):
        """The message to send now (`now` in ticks); None when none waits or the window is full."""
        sent = self._sent
        if sent >= self.window or sent >= len(self._messages):
            return None
        message = self._messages[sent]
        if not message.pid:
            message.pid = self._draw()
        message.sent_at = now
        self._sent = sent + 1
        return message

    def _draw(self):
        """A packet id that no message of the queue has."""
        pid = self._pid
        while True:
            pid = pid + 1 if pid < _LAST_PID else _FIRST_PID
            for message in self._messages:
                if message.pid == pid:
                    break
            else:
                self._pid = pid
                return pid

    def acknowledged(self, pid):
        """Take the message out; False when none of this connection has this id."""
        messages = self._messages
        for i in range(self._sent):
            message = messages[i]
            if message.pid == pid:
                messages.pop(i)
                self._sent -= 1
                message.end()
                self.room.set()
                return True
        return False

    def sent_at(self, now):
        """A packet that took its time has gone: the newest on its way may have been it."""
        if self._sent:
            self._messages[self._sent - 1].sent_at = now

    def overdue(self, now, ms):
        """True when the oldest message on its way has waited longer than this."""
        return self._sent > 0 and ticks_diff(now, self._messages[0].sent_at) > ms

    def clear(self):
        """Forget all messages."""
        self._messages.clear()
        self._sent = 0

    def lost(self):
        """The connection ended: what was on its way goes out again, marked as a duplicate."""
        for i in range(self._sent):
            self._messages[i].flags |= DUP
        self._sent = 0
