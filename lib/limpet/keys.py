"""Where the secret that opens a record comes from; numbers and claims: PROTOCOLS.md 1.

There is no way from one source to another but a new record from the kit.
"""

PLAIN = 0  # no secret: the record is protected against accidents only
SOFT = 1  # drawn by the kit, lies in another place of the same flash
_DEFAULT = bytes([SOFT])


def chip_id():
    """This chip's public number (bytes), empty where the port has none (a desktop).

    A record is bound to it: with an empty one it opens on any board that has the store secret.
    """
    try:
        from machine import unique_id
    except ImportError:
        return b""
    return bytes(unique_id())


class Keys:
    """The store secrets of both slots."""

    def __init__(self, store):
        self._store = store

    def available(self):
        """Source numbers that this board could use, the best first."""
        return [SOFT, PLAIN]

    def accepted(self):
        """Source numbers (bytes) whose records are read; `soft` unless the kit said otherwise."""
        return bytes(self._store.read("sources") or _DEFAULT)

    def accept(self, *sources):
        """Read records of these sources, and of no other, from now on."""
        numbers = bytes(sorted(set(sources)))
        if numbers != self.accepted():
            self._store.write("sources", numbers)

    def secret(self, source, slot):
        """The 32 bytes for a record of this source in this slot, None when there are none."""
        if source == PLAIN:
            return bytes(32)
        key = self._store.read("key%d" % slot)
        return key if key and len(key) == 32 else None

    def put(self, source, slot, secret):
        """Keep the store secret of a record that is about to be written."""
        if source == SOFT:
            self._store.write("key%d" % slot, secret)
