"""The blocking drop-in: `from limpet.umqtt import MQTTClient` in place of umqtt's.

Server, account and anchors come from the vault; what a sketch passes for them is ignored. Topics
follow the rules of client.py: `temperature` is published to `limpet/<device>/up/temperature`,
`led` is subscribed to as `limpet/<device>/cmd/led` and arrives as `led`; a leading slash makes a
topic absolute. All calls reconnect by the schedules of retry.py, the first `connect` like later
ones, and take as long as that takes; `feed` keeps a watchdog alive meanwhile. Changes of the kit
are taken within wait_msg and check_msg: a sketch that never calls them gets none.
"""

import json
from time import ticks_diff, ticks_ms

from micropython import const
from umqtt import robust
from umqtt.simple import MQTTException

from . import packets, vault
from .blocking import NAP_MS, Connection, Waits
from .dial import Dialler, hello, interface
from .errors import LimpetError, Lost, fault
from .logins import CHANGE, Logins, random_bits
from .times import Times
from .topics import Router

_KEEPALIVE_S = const(60)
_ERRAND_MS = const(1_000)


class MQTTClient(robust.MQTTClient):
    """umqtt's client on a verified link. `store`, `wifi`, `feed`, `log`: as of limpet.Client."""

    def __init__(
        self,
        client_id=None,
        server=None,
        port=0,
        user=None,
        password=None,
        keepalive=0,
        ssl=None,
        ssl_params=None,
        store=None,
        wifi=None,
        feed=None,
        log=None,
        receive=2048,
        send=512,
    ):
        super().__init__(client_id or b"limpet", server or "", keepalive=keepalive or _KEEPALIVE_S)
        self._say = log or (lambda line: None)
        self._feed = feed or (lambda: None)
        self._waits = Waits(self._feed)
        self._wifi = interface(self._say) if wifi is None else wifi
        self._store = store or vault.Vault()
        self._logins = Logins(self._store, random_bits)
        self._dialler = Dialler()
        self._router = Router(self._say)
        self._times = Times(self._logins, self._dialler, self._say)
        self._router.time = self._times.told
        self._router.kit = self._keep
        self._router.named(self._logins.name())
        self._first = True
        self._out = packets.Out(send)
        self._wire = Connection(
            self._waits, self._out, packets.In(receive), self._feed, self._deliver
        )
        self._filters = []
        self._clean = True
        self._told = None  # what the kit knows
        self._box = None  # what the kit sent
        self._errand_at = ticks_ms()

    # -- what a sketch calls

    def connect(self, clean_session=True):
        """Return when online: 1 if the server kept our session. Raises LimpetError only when
        this board holds no credential that can be read."""
        self._clean = clean_session
        return self.reconnect()

    def reconnect(self):
        """Connect, over any number of tries; subscriptions are restored."""
        if self._first:
            self._first = False
            self._sleep(self._logins.waiting())  # a refusal before the reset
        while True:
            self._hang_up()
            record = self._logins.record()
            if not record:
                raise LimpetError("UNPROVISIONED")
            try:
                return self._login(record)
            except (LimpetError, OSError, ValueError, MemoryError) as e:
                self._pause("%s; next try in %d s", e)
            finally:
                record.wipe()

    def publish(self, topic, msg, retain=False, qos=0):
        """QoS 0: sent. QoS 1: acknowledged, over any number of connections."""
        if qos > 1:
            raise ValueError("QoS 2 is not offered: use 1, and an id in the payload")
        topic = self._router.up(_text(topic))
        payload = msg.encode() if isinstance(msg, str) else msg
        flags = (packets.RETAIN if retain else 0) | (packets.QOS1 if qos else 0)
        pid = 0
        if qos:
            pid = self.pid = self.pid + 1 if 1 < self.pid < 65535 else 2
        self._out.room(topic)
        while True:
            try:
                self._publish(topic, payload, flags, pid)
                return
            except (LimpetError, OSError, ValueError) as e:
                self._broken(e)
                flags |= packets.DUP if qos else 0

    def _publish(self, topic, payload, flags, pid):
        """Once, on the present connection. A callback may do so while a publish waits."""
        waiting = self._wire.waiting
        if pid and pid not in waiting:
            waiting.append(pid)
        self._wire.publish(topic, payload, flags, pid)
        self._wire.wait_for(lambda: not pid or pid not in waiting)

    def subscribe(self, topic, qos=0):
        """Subscribe, now and after every reconnect; raises MQTTException when it is refused."""
        wanted = self._router.absolute(_text(topic), "cmd")
        if wanted not in self._filters:
            self._filters.append(wanted)
        while True:
            try:
                codes = self._wire.subscribe([wanted])
                break
            except (LimpetError, OSError, ValueError) as e:
                self._broken(e)
        if codes[0] & 0x80:
            raise MQTTException(codes[0])

    def wait_msg(self):
        """Wait for a packet of the server and handle it; its first byte, None for PINGRESP."""
        while True:
            op = self._receive(min(NAP_MS, self.keepalive * 250))
            if op:
                return None if op == packets.PINGRESP else op

    def check_msg(self, attempts=2):
        """Handle a packet of the server if there is one; as `wait_msg`, None when there is none.
        To be called a few times per keep-alive: it pings, and notices a dead link."""
        op = self._receive(0)
        return None if op == packets.PINGRESP else op

    def ping(self):
        """Have the server answer; done by wait_msg and check_msg when it is due."""
        try:
            self._wire.ping()
        except (LimpetError, OSError, ValueError) as e:
            self._broken(e)

    def disconnect(self):
        """Say goodbye and close; the will is not sent."""
        if self._wire.link:
            try:
                if not self.lw_topic:
                    self._wire.publish(self._router.state, _state("offline"), packets.RETAIN, 0)
                self._wire.goodbye()
            except (LimpetError, OSError, ValueError):
                pass  # it is closed in any case
        self._hang_up()

    def _pause(self, words, failure):
        """Close, say why, and wait as the schedule says."""
        self._hang_up()
        if not isinstance(failure, LimpetError):
            failure = fault(failure)
        self._times.failed(failure)
        pause = self._logins.failed(failure)
        self._say(words % (failure, (pause + 999) // 1000))
        self._sleep(pause)

    def _sleep(self, ms):
        for piece in self._logins.pieces(ms):
            self._waits.sleep(piece)

    # -- connecting

    def _login(self, record):
        link, present = self._waits.drive(self._dial(record))
        self.sock = link.stream
        self._wire.begin(link, self.keepalive)
        self._wire.subscribe(self._router.filters() + self._filters)
        self._logins.accepted(record)
        if not self.lw_topic:
            self._wire.publish(self._router.state, _state("online"), packets.RETAIN, 0)
        told = (record.generation, self._logins.told)
        if self._told != told:
            ack = self._logins.acknowledgement(record)
            self._wire.publish(self._router.kit_ack, ack, packets.RETAIN | packets.QOS1, 1)
            self._told = told
        return present

    def _dial(self, record):
        if self._wifi:
            yield from self._wifi.up(record)
        yield from self._times.before(record)
        return (yield from self._dialler.dial(record, lambda: self._hello(record)))

    def _hello(self, record):
        self._logins.sending()
        if self.lw_topic:
            topic = self._router.up(_text(self.lw_topic))
            message = self.lw_msg.encode() if isinstance(self.lw_msg, str) else self.lw_msg
            will = (topic, message, min(self.lw_qos, 1), self.lw_retain)
        else:
            will = (self._router.state, _state("offline"), 1, True)
        return hello(record, self.keepalive, self._clean, will)

    def _hang_up(self):
        self._wire.hang_up()
        self.sock = None

    def _broken(self, failure):
        """A connection ended: wait, then log in anew."""
        self._logins.lasts()
        if isinstance(failure, OSError):
            failure = Lost("READ", failure)
        self._pause("the connection ended: %s; next try in %d s", failure)
        self.reconnect()

    # -- errands

    def _receive(self, ms):
        """As Connection.next, but over any number of connections."""
        while True:
            try:
                op = self._wire.next(ms)
                self._errand(op)
                return op
            except (LimpetError, OSError, ValueError) as e:
                self._broken(e)

    def _keep(self, payload):
        self._box = bytes(payload)

    def _errand(self, op):
        """What the kit wants, at most once a second; `op` as of Connection.next (as kit.py)."""
        if ticks_diff(ticks_ms(), self._errand_at) < _ERRAND_MS:
            return
        self._errand_at = ticks_ms()
        restart = self._logins.is_due
        if self._box:
            from . import changes

            box = self._box
            self._box = None
            ack, then = changes.take(self._store, box)
            if ack:
                self._publish(self._router.kit_ack, ack, packets.RETAIN | packets.QOS1, 1)
            if then == changes.WIPE:
                self._store.wipe()
                raise Lost("WIPED")
            restart = then == changes.RESTART
        elif op is None:
            self._store.scrub()
        if restart:
            self._wire.goodbye()
            raise Lost(CHANGE)

    def _deliver(self, in_):
        topic = bytes(in_.view[in_.at + 2 : in_.topic_end])
        below = self._router.absolute("", "cmd")
        if topic.startswith(below):
            topic = topic[len(below) :]
        if not self._router.take(in_, topic) and self.cb:
            self.cb(topic, bytes(in_.view[in_.payload : in_.end]))


def _state(state):
    return json.dumps({"state": state}).encode()


def _text(topic):
    return topic if isinstance(topic, str) else bytes(topic).decode()
