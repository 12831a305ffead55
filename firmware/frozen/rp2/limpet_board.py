"""Where the vault of this board is: the first sectors of what the firmware leaves."""

import rp2

VAULT = 7 * 4096  # bytes: a sector an item, limpet/store.py


def region():
    """The vault's sectors as a block device."""
    return rp2.Flash(start=0, len=VAULT)
