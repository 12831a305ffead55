"""amqtt, with our rules in it and around what is wrong in it for us (0.12.1, read and measured).

| amqtt by itself | here |
| --- | --- |
| ends or takes over a session before it has looked at the password | `gate.py` logs in first |
| a new connection of the same client leaves the old one open, and its will fires later | gate |
| no keep-alive: a dead client is never noticed, its will never sent | gate |
| a will is published whatever the ACL says | gate strips it |
| a password that is not UTF-8 is refused, a broken CONNECT holds the link | gate |
| every client that connects gets the retained messages of all subscriptions of others | here |
| retained messages are sent without asking the ACL | here |
| a message is lost when somebody subscribes while it is passed on | here |
| messages that waited for a client are sent as retained ones, which boards ignore | clean |
| retained messages are lost when it ends | documented; the kit publishes its own again |
| delivers with the subscriber's QoS, not the lower of both | as is |
| gives a QoS 1 delivery up that is not acknowledged within 5 s | as is |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext, BrokerConfig
from amqtt.plugins.base import BaseAuthPlugin, BasePlugin, BaseTopicPlugin
from amqtt.session import Session

from . import rules
from .accounts import Account

LISTENER = "gate"
Lookup = Callable[[str], Account | None]

# What `Engine` replaces or uses; another amqtt without these would run without our checks.
_RELIES_ON = (
    "_get_handler",
    "_matches",
    "_publish_retained_messages_for_subscription",
    "_topic_filtering",
    "external_connected",
)


class Rules(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]
    """The plug-in that amqtt asks: who is known, and who may publish, subscribe and receive."""

    @dataclass
    class Config:
        """`lookup` finds an account by its name."""

        lookup: Any = None

    def __init__(self, context: BaseContext) -> None:
        BasePlugin.__init__(self, context)

    async def authenticate(self, *, session: Session) -> bool:
        """Whether the account still is there; the gate has checked its password."""
        return self._account(session) is not None

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool:
        """Whether this session may do this with this topic or filter."""
        account = self._account(session)
        check = {
            Action.PUBLISH: rules.may_write,
            Action.RECEIVE: rules.may_read,
            Action.SUBSCRIBE: rules.may_subscribe,
        }.get(action)
        return bool(account and topic and check and check(account.acl, topic))

    def _account(self, session: Session | None) -> Account | None:
        name = session.username if session else None
        found: Account | None = self.config.lookup(name) if name else None
        return found


class Engine(Broker):  # type: ignore[misc]
    """amqtt's broker for connections that the gate let in."""

    def __init__(self, lookup: Lookup) -> None:
        missing = [name for name in _RELIES_ON if not hasattr(Broker, name)]
        if missing:
            raise RuntimeError(f"this amqtt lacks {', '.join(missing)}; install amqtt 0.12")
        listener = {"type": "external", "bind": "none"}
        plugins = {f"{__name__}.{Rules.__name__}": {"lookup": lookup}}
        super().__init__(
            BrokerConfig.from_dict(
                {"listeners": {"default": listener, LISTENER: listener}, "plugins": plugins}
            )
        )
        self._subscriptions = _Steady()

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Send a subscriber the retained messages that it may read, each once."""
        topic_filter, qos = subscription
        mine = any(owner is session for owner, _ in self._subscriptions.get(topic_filter, ()))
        handler = self._get_handler(session)
        if not mine or handler is None:
            return
        for topic, kept in list(self._retained_messages.items()):
            if self._matches(topic, topic_filter) and await self._topic_filtering(
                session, topic, Action.RECEIVE
            ):
                sending = handler.mqtt_publish(topic, kept.data, min(qos, kept.qos or 0), True)
                self._tasks_queue.append(asyncio.ensure_future(sending))


class _Steady(dict[str, Any]):
    """A dictionary that may change while somebody goes through it."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:
        return list(super().items())
