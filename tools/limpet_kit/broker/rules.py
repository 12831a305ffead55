"""What the lines of an ACL allow, by MQTT's rules for wildcards (MQTT 3.1.1, section 4.7)."""

from __future__ import annotations

from collections.abc import Iterator


def may_write(acl: str, topic: str) -> bool:
    """Whether these `access filter` lines allow a message to be published on `topic`."""
    return any(matches(allowed, topic) for allowed in _filters(acl, "write"))


def may_read(acl: str, topic: str) -> bool:
    """Whether these lines allow a message on `topic` to be delivered."""
    return any(matches(allowed, topic) for allowed in _filters(acl, "read"))


def may_subscribe(acl: str, topic_filter: str) -> bool:
    """Whether a subscription could ever deliver something; each message is checked as well."""
    return any(overlap(allowed, topic_filter) for allowed in _filters(acl, "read"))


def matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic_filter` takes a message on `topic`."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True  # also takes the level above: a/# matches a
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def overlap(one: str, other: str) -> bool:
    """Whether there is a topic that both filters take."""
    left, right = one.split("/"), other.split("/")
    for a, b in zip(left, right, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    if len(left) == len(right):
        return True
    longer = max(left, right, key=len)
    return longer[min(len(left), len(right)) :] == ["#"]


def _filters(acl: str, access: str) -> Iterator[str]:
    for line in acl.split("\n"):
        granted, _, topic_filter = line.partition(" ")
        if granted in (access, "readwrite"):
            yield topic_filter
