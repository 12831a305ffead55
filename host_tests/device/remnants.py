"""Rotates credentials on a flash in memory, then scrubs it: what is left is for the host to find.

`micropython remnants.py STORE ROTATIONS FOLDER` writes the flash to FOLDER as before.bin and
after.bin (the scrub), and prints one line of JSON: `secrets` and `boxes` that were replaced, and
the `live` ones: password, store secret, box; all in hex.
"""

import json
import sys

from bench_board import Board, password, store_secret
from limpet import record

BLOCKS = {"rp2": 212, "esp32": 512, "raw": 7}  # of a Pico W, of an ESP32 with 4 MiB, the least


def kept(board):
    """What would open the record in use: (password, store secret, box)."""
    found = board.vault.records()[0]
    key = board.store.read("key%d" % found.slot)
    box = board.store.read("box%d" % found.slot)
    return [bytes(found.one(record.PASSWORD)).hex(), bytes(key).hex(), bytes(box).hex()]


def main(store, rotations, folder):
    image = bytearray(b"\xff" * (BLOCKS[store] * 4096))
    board = Board(store, image)
    board.enrol(1)
    old = []
    for number in range(2, rotations + 2):
        old.append(kept(board))
        assert old[-1][0] == password(number - 1).hex()
        board.change(number)
        board.confirm(number)
    assert old[0][1] == store_secret(1).hex()
    with open(folder + "/before.bin", "wb") as f:
        f.write(image)
    board.scrub()
    with open(folder + "/after.bin", "wb") as f:
        f.write(image)
    print(
        json.dumps(
            {
                "secrets": [value for one in old for value in one[:2]],
                "boxes": [one[2] for one in old],
                "live": kept(board),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
