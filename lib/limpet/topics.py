"""The topics of one device, and which handler a message goes to."""

import asyncio

from micropython import const

from .errors import LimpetError
from .packets import matches

_TIME = const(b"limpet/time")  # written by the kit alone
_MAX_CACHED = const(32)
_MAX_RUNNING = const(16)  # handlers at work before QoS 0 messages for more of them are dropped


def _generator():
    yield


def _is_plain(handler):
    """True for a plain function, False for a coroutine, None when it cannot be told: a method,
    and on CPython, where both have one type."""
    plain = type(handler) is type(_is_plain)
    coroutine = type(handler) is type(_generator)
    return None if plain == coroutine else plain


class _Route:
    def __init__(self, topic, handler, retained):
        self.topic = topic
        self.filter = None
        self.wild = "+" in topic or "#" in topic
        self.handler = handler
        self.plain = _is_plain(handler)
        self.retained = retained


class Router:
    """Topics below `limpet/<device>/` and the sketch's handlers for them."""

    def __init__(self, log):
        self.log = log
        self._routes = []
        self._cache = {}
        self._running = 0
        self.device = ""
        self._subscribed = 0  # so many of the filters has the server of a persistent session,
        self._known = None  # which is this one, for this generation of the record
        self.kit = None  # a function: takes what the kit sends
        self.time = None  # the same: takes the kit's time, and whether it was retained

    def named(self, name):
        """Take the device's name, once the vault was read."""
        self.device = name
        self._cache.clear()
        self._known = None
        self.state = ("limpet/%s/state" % name).encode()
        self.kit_set = ("limpet/%s/kit/set" % name).encode()
        self.kit_ack = ("limpet/%s/kit/ack" % name).encode()
        for route in self._routes:
            route.filter = self.absolute(route.topic, "cmd")

    def absolute(self, topic, branch):
        """The whole topic (bytes) of a name below one of this device's branches."""
        if topic[:1] == "/":
            return topic[1:].encode()
        return ("limpet/%s/%s/%s" % (self.device, branch, topic)).encode()

    def add(self, topic, handler, retained):
        """Register a handler; the filter to subscribe to, None while the name is not known."""
        route = _Route(topic, handler, retained)
        if self.device:
            route.filter = self.absolute(topic, "cmd")
        self._routes.append(route)
        return route.filter

    def filters(self):
        """All filters to subscribe to, each once."""
        found = [self.kit_set, _TIME]
        for route in self._routes:
            if route.filter not in found:
                found.append(route.filter)
        return found

    async def restore(self, session, there, present):
        """Subscribe to what the server does not have: `there` says which one it is, for which
        generation of the record; `present` whether it has kept our session."""
        filters = self.filters()
        known = self._subscribed if present and there == self._known else 0
        self._known = None
        # The first one always: its SUBACK is the proof of health, and it brings a waiting change.
        await self.ask(session, filters[:1] + filters[max(1, known) :])
        self._subscribed = len(filters)
        self._known = there

    async def late(self, session):
        """Subscribe to what handlers were added for since `restore` began."""
        filters = self.filters()[self._subscribed :]
        if filters:
            await self.ask(session, filters)

    async def ask(self, session, filters):
        """Subscribe; a refusal goes to the log."""
        for wanted, code in zip(filters, await session.subscribe(filters)):
            if code & 0x80:
                self.log("the server refused the subscription to %s" % wanted.decode())

    def up(self, topic):
        """The absolute topic (bytes) to publish to; kept, so that a publish allocates nothing."""
        found = self._cache.get(topic)
        if found is None:
            if not self.device:
                raise LimpetError("NO_NAME")
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            found = self.absolute(topic, "up")
            if not found or b"+" in found or b"#" in found or b"\0" in found:
                raise ValueError("a topic to publish to is not empty and holds no + and no #")
            if topic.find("/") > 0:  # brokers acknowledge what they may not take
                raise ValueError("a name below up/ has no slash")
            self._cache[topic] = found
        return found

    def deliver(self, in_, session):
        """Hand a PUBLISH to its handler. True when it may be acknowledged now; after a coroutine
        `session` does it when the coroutine has ended."""
        topic = in_.view[in_.at + 2 : in_.topic_end]
        if self.take(in_, topic):
            return True
        for route in self._routes:
            if topic == route.filter or (route.wild and matches(route.filter, topic)):
                if in_.op & 1 and not route.retained:
                    return True  # an old command is no command
                return self._call(route, topic, in_.view[in_.payload : in_.end], in_, session)
        return True

    def take(self, in_, topic):
        """Whether a PUBLISH is the kit's and not the sketch's; then it has been handled."""
        if topic == self.kit_set:
            self.kit(in_.view[in_.payload : in_.end])
        elif topic == _TIME:
            self.time(in_.view[in_.payload : in_.end], in_.op & 1)
        else:
            return False
        return True

    def _call(self, route, topic, payload, in_, session):
        if not route.plain:  # it may run later, when the buffer holds something else
            if self._running >= _MAX_RUNNING and not in_.pid:
                self.log("too many handlers at work: dropped a message for %s" % route.topic)
                return True
            topic = bytes(topic)
            payload = bytes(payload)
        try:
            result = route.handler(topic, payload) if route.wild else route.handler(payload)
        except Exception as e:
            self.log("the handler of %s failed: %s" % (route.topic, repr(e)))
            return True
        if route.plain is None:  # of a method or closure only the first call tells
            route.plain = not hasattr(result, "send")
        if route.plain:
            return True
        self._running += 1
        asyncio.create_task(self._run(route, result, in_.pid, session))
        return False

    async def _run(self, route, coroutine, pid, session):
        try:
            await coroutine
        except Exception as e:
            self.log("the handler of %s failed: %s" % (route.topic, repr(e)))
        finally:
            self._running -= 1
        if pid:
            session.acknowledge(pid)
            session.flush()
