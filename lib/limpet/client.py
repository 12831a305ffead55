"""The client as a sketch sees it.

MQTT 3.1.1, not 5: every broker speaks it, and what 5 adds (properties on each packet) costs a
device code and bytes for nothing that it needs.
"""

import gc

from . import packets, vault
from .dial import Dialler, interface
from .flight import Flight, Message
from .keeper import Keeper
from .logins import Logins, random_bits
from .session import DONE
from .status import OFFLINE, UNPROVISIONED, Status
from .times import SERVERS
from .topics import Router


def parts(store, wifi, log, feed):
    """Store, interface, status and watchdog of a client, made where they are None."""
    status = Status(OFFLINE, log)
    if wifi is None:
        wifi = interface(status.log)
    return store or vault.Vault(), wifi, status, feed or (lambda: None)


class Life:
    """What every client of ours has: starting, closing, and what it is doing.

    `keeper` keeps it connected (keeper.py), `status` is what that has to say (status.py).
    """

    def __init__(self, keeper, status):
        self._keeper = keeper
        self._status = status
        self.counters = status.counters

    def start(self):
        """Begin to connect, in the background; again after `close`."""
        self._keeper.start()

    async def close(self):
        """Say goodbye if online, and stop. Unacknowledged messages stay for the next `start`."""
        await self._keeper.close()

    async def __aenter__(self):
        self.start()
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def online(self):
        """Return when the client is online; raises LimpetError when it holds no credential."""
        await self._keeper.settled.wait()
        if self.state == UNPROVISIONED:
            raise self._status.reason

    def try_now(self):
        """End the present pause: for a button, or when the network is known to be back."""
        self._keeper.now.set()

    # -- what it is doing

    @property
    def name(self):
        """This device's name, empty before the vault was read."""
        return self._keeper.device

    @property
    def state(self):
        """UNPROVISIONED, OFFLINE, CONNECTING, ONLINE, UNTRUSTED or REFUSED."""
        return self._status.state

    @property
    def reason(self):
        """Words for the last failure; online empty, or that a certificate ends within 60 days."""
        return str(self._status.reason)

    @property
    def next_try(self):
        """Whole seconds until the next try, 0 when none is planned."""
        return self._status.next_try

    def events(self):
        """`async for state, reason in client.events()`: the changes of state from now on."""
        from .events import Events

        return Events(self._status)


class Client(Life):
    """An MQTT 3.1.1 client whose server, account and anchors come from the vault.

    `keepalive` in s; `window` is how many QoS 1 messages may wait for their acknowledgement,
    `queue` how many more for their turn, and `full` what a publish does when both are used up:
    "wait", "drop" the oldest or "raise". `clean=False` has the server keep subscriptions and
    messages while we are away. `receive` and `send` are buffer sizes in bytes: a larger packet
    from the server ends the connection, a larger payload to it is written in pieces. `wifi` is
    something with a generator `up(record)` (wifi.py), or False where the sketch cares for the
    interface. `feed` feeds a watchdog: it is called every 2 s, and right before each long step,
    while the client makes progress. `time_servers` (NTP) are asked after a server was refused
    because of time. `log` takes a line of text.
    """

    def __init__(
        self,
        store=None,
        wifi=None,
        log=None,
        keepalive=60,
        clean=True,
        window=8,
        queue=8,
        full="wait",
        receive=2048,
        send=512,
        feed=None,
        random=random_bits,
        time_servers=SERVERS,
    ):
        if not 0 < keepalive < 65536:
            raise ValueError("keepalive is 1 to 65535 s")
        store, wifi, status, feed = parts(store, wifi, log, feed)
        self._router = Router(status.log)
        gc.collect()  # so that what a client keeps lies together (keeper.py)
        keeper = Keeper(
            store,
            Logins(store, random),
            Dialler(),
            wifi,
            self._router,
            Flight(window, queue, full),
            packets.Out(send),
            packets.In(receive),
            status,
            keepalive,
            clean,
            feed,
            time_servers,
        )
        super().__init__(keeper, status)
        gc.collect()

    # -- messages

    def on(self, topic, retained=False):
        """Decorator: handle `limpet/<device>/cmd/<topic>`, or with a leading slash any filter.

        The handler gets the payload, with a wildcard the topic before it. A plain function gets
        views that are valid during the call; a coroutine gets copies and runs as a task. A
        retained message is ignored unless `retained` is set. The first handler that fits counts.
        """

        def register(handler):
            self._keeper.subscribe(self._router.add(topic, handler, retained))
            return handler

        return register

    def publish(self, topic, payload, qos=0, retain=False):
        """Publish to `limpet/<device>/up/<topic>`, or with a leading slash to any topic.

        Await the answer. QoS 0 has usually gone when this returns; offline it is dropped and
        counted. QoS 1 is queued when this returns, unless the queue is full; the answer comes
        when the server has acknowledged, over any number of connections.
        """
        if qos:
            message = self._message(topic, payload, qos, retain)
            return self._keeper.send(message)
        session = self._keeper.session
        if session is None:
            self.counters.dropped += 1
            return DONE
        if isinstance(payload, str):
            payload = payload.encode()
        self.counters.published += 1
        return session.publish(self._router.up(topic), payload, packets.RETAIN if retain else 0)

    def publish_nowait(self, topic, payload, qos=1, retain=False):
        """Queue a QoS 1 message and return it; `await message.wait()` for its acknowledgement.

        Raises LimpetError (FULL) when there is no room.
        """
        message = self._message(topic, payload, qos, retain)
        self._keeper.send_nowait(message)
        return message

    def send(self, device, name, payload, qos=0):
        """One-to-one: publish to `limpet/<device>/from/<this device>/<name>`."""
        return self.publish("/limpet/%s/from/%s/%s" % (device, self.name, name), payload, qos)

    async def report(self, topic, payload, retain=False, slept_s=0):
        """For a board that wakes, reports and sleeps: connect, have one QoS 1 message
        acknowledged, leave. The client must not be started. One try; raises LimpetError, also
        while a refused account has to wait. `slept_s`: s in deep sleep since the last report."""
        from .report import report

        self._keeper.name()
        message = self._message(topic, payload, 1, retain)
        await report(self._keeper, message, slept_s)

    def _message(self, topic, payload, qos, retain):
        if qos != 1:
            raise ValueError("QoS 2 is not offered: use 1, and an id in the payload")
        if isinstance(payload, str):
            payload = payload.encode()
        elif not isinstance(payload, bytes):
            payload = bytes(payload)  # it may have to go out again
        flags = packets.QOS1 | (packets.RETAIN if retain else 0)
        message = Message(self._router.up(topic), payload, flags)
        self._keeper.out.room(message.topic)
        self.counters.published += 1
        return message
