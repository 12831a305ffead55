"""Where the secret that opens a record comes from; numbers and claims: PROTOCOLS.md 1.

There is no way from one source to another but a new record from the kit.
"""

from micropython import const

PLAIN = const(0)  # no secret: the record is protected against accidents only
SOFT = const(1)  # drawn by the kit, lies in another place of the same flash
PLATFORM = const(2)  # as soft, in storage that the chip encrypts
# No code yet, nobody could try it: 3, from an eFuse by the chip's HMAC unit; 4, from one-time
# programmable memory.
EXTERNAL = const(5)  # given at boot, not stored on the board

_STOCK = const(b"\x01\x00")  # SOFT, PLAIN


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
    """The store secrets of both slots.

    `sources` (bytes) are the numbers that this board accepts; a record of another one is not
    read. Without it they are those of a frozen module `limpet_board` (`SOURCES`, the board
    definition's list), or `soft` and `plain`. `external` is the secret (32 bytes) that a boot
    script got from a person, a host or a secure element.
    """

    def __init__(self, store, external=None, sources=None):
        self.store = store
        self.external = external
        try:
            from limpet_board import SOURCES as board
        except ImportError:
            board = _STOCK + bytes([EXTERNAL] if external else [])
        self.sources = sources or board

    def secret(self, source, slot):
        """The 32 bytes for a record of this source in this slot, None when there are none."""
        key = self.external if source == EXTERNAL else self.store.read("key%d" % slot)
        if not key or len(key) != 32 or (source == PLAIN and key != bytes(32)):
            return None
        return key
