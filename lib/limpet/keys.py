"""Where the secret that opens a record comes from; numbers and claims: PROTOCOLS.md 1.

There is no way from one source to another but a new record from the kit.
"""

PLAIN = 0  # no secret: the record is protected against accidents only
SOFT = 1  # drawn by the kit, lies in another place of the same flash
_DEFAULT = bytes([SOFT])


class Keys:
    """The store secrets of both slots."""

    def __init__(self, store):
        self._store = store

    def available(self):
        """Source numbers that this board could use."""
        return [SOFT, PLAIN]

    def accepted(self):
        """Source numbers (bytes) whose records are read; `soft` unless the kit said otherwise."""
        return self._store.read_sources() or _DEFAULT

    def accept(self, source):
        """Allow this source alone from now on beside those of records in use; the kit asks."""
        if source not in self.accepted():
            self._store.write_sources(bytes(self.accepted()) + bytes([source]))

    def secret(self, source, slot):
        """The 32 bytes for a record of this source in this slot, None when there are none."""
        if source == PLAIN:
            return bytes(32)
        key = self._store.read_key(slot)
        return key if key and len(key) == 32 else None

    def put(self, source, slot, secret):
        """Keep the store secret of a record that is about to be written."""
        if source == SOFT:
            self._store.write_key(slot, secret)
