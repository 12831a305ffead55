"""What RabbitMQ retains, and how the kit gets at it all the same.

Each node retains for itself alone what was published there, and hands it only to who subscribes
to its very topic, not to a filter with wildcards (measured, 3.10.8). So the kit tells every node
what is to be retained, asks every node, and asks by the names of the devices that it knows. A
device needs nothing of that: what it reads has no wildcard where something is retained.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import accounts, export, rules

if TYPE_CHECKING:
    from .settings import Settings

_BRANCHES = ("state", "kit/set", "kit/ack")  # of a device, on which something is retained


def exact(settings: Settings, topic_filter: str, also: Iterable[str] = ()) -> list[str]:
    """The topics of this filter on which something may be retained; empty for a broker that does
    not need to be asked for each. `also` are devices that have no account there any more."""
    if not settings.hosts or not {"+", "#"} & set(topic_filter):
        return []
    devices = {accounts.device_of(acl) for acl in export.read_acl(settings.folder).values()}
    devices = {*devices, *also} - {""}
    topics = [f"limpet/{name}/{end}" for name in sorted(devices) for end in _BRANCHES]
    return [topic for topic in (*topics, "limpet/time") if rules.matches(topic_filter, topic)]
