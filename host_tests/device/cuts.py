"""Cuts the power in every flash operation of the vault's flows, boots, and goes on to the end.

`micropython cuts.py STORE EVERY [FLOW...]`, STORE being rp2, esp32 (LittleFS with their program
sizes) or raw, EVERY the step between cut points. Prints one line of JSON: cut points and faults.
`micropython cuts.py STORE remnants` counts what 20 rotations leave in the flash.
"""

import gc
import json
import sys
from hashlib import sha256

import vfs
from limpet import changes, record, rules, seal, slots, vault
from limpet.region import RawStore
from limpet.store import FileStore

BLOCKS = 24  # a small flash: cut points do not depend on its size
GEOMETRY = {"rp2": 212, "esp32": 512, "raw": 7}  # of a Pico W, of an ESP32 with 4 MiB, least
CHIP = b"cut bench"
CONTROL_KEY = bytes(range(32))
VAULT_ID = b"\x77" * 16
PERCENTS = (0, 30, 90)


def password(number):
    """The password, and the store secret, of an account."""
    return sha256(b"password %d" % number).digest()


class Cut(BaseException):
    """The power is gone; nothing in the library may catch it."""


class Nor:
    """NOR flash over `image`: erase sets bits, programming clears them, `cut` ends it."""

    def __init__(self, image, page, cut=0, percent=0):
        self.image = image
        self.page = page
        self.operations = 0
        self.cut = cut
        self.percent = percent
        self.noise = 12345 + cut * 7 + percent
        self.dead = False  # what a collection closes late must neither reach it nor allocate

    def readblocks(self, block, buf, offset=0):
        if self.dead:
            return -5
        at = block * 4096 + offset
        buf[:] = self.image[at : at + len(buf)]
        return 0

    def writeblocks(self, block, buf, offset=None):
        if self.dead:
            return -5
        if offset is None:
            for i in range(len(buf) // 4096):
                self.ioctl(6, block + i)
        at = block * 4096 + (offset or 0)
        for i in range(0, len(buf), self.page):
            old = self.image[at + i : at + i + self.page]
            self._write(at + i, bytes(old[k] & buf[i + k] for k in range(len(old))))
        return 0

    def ioctl(self, operation, argument):
        if self.dead:
            return -5
        if operation == 4:
            return len(self.image) // 4096
        if operation == 5:
            return 4096
        if operation == 6:
            self._write(argument * 4096, b"\xff" * 4096)
        return 0

    def _write(self, at, new):
        self.operations += 1
        if self.cut and self.operations > self.cut:
            raise Cut()
        if self.operations != self.cut:
            self.image[at : at + len(new)] = new
            return
        done = len(new) * self.percent // 100
        self.image[at : at + done] = new[:done]
        for i in range(done, len(new)):  # a bit that was to change may be either
            self.noise = (self.noise * 1103515245 + 12345) & 0x7FFFFFFF
            old = self.image[at + i]
            self.image[at + i] = old ^ ((old ^ new[i]) & (self.noise >> 16))
        raise Cut()


class Board:
    """A board with this image, switched on."""

    def __init__(self, store, image, cut=0, percent=0):
        self.flash = Nor(image, 32 if store == "esp32" else 256, cut, percent)
        if store == "raw":
            self.store = RawStore(self.flash)
        else:
            try:
                system = vfs.VfsLfs2(self.flash, progsize=self.flash.page)
            except OSError:
                vfs.VfsLfs2.mkfs(self.flash, progsize=self.flash.page)
                system = vfs.VfsLfs2(self.flash, progsize=self.flash.page)
            vfs.mount(system, "/cut")
            self.store = FileStore("/cut/.limpet")
        self.counter = 0
        self.vault = vault.Vault(self.store, CHIP, random=self._random, now=lambda: 1_800_000_000)

    def off(self):
        if not isinstance(self.store, RawStore):
            vfs.umount("/cut")

    def _random(self, n):
        self.counter += 1
        return bytes([self.counter & 255]) * n

    # what is there: accounts of the valid records, the confirmed one first

    def accounts(self):
        return [int(r.one(record.ACCOUNT)) for r in self.vault.records()]

    def enrol(self, number):
        fields = rules.encode(*fields_of(number))
        self.vault.write(1, VAULT_ID, password(number), fields)

    def change(self, number):
        fields = rules.encode(
            (record.ACCOUNT, b"%023d" % number), (record.PASSWORD, password(number))
        )
        box = seal.seal(
            seal.CONTROL,
            1,
            number,
            VAULT_ID,
            CONTROL_KEY,
            seal.control_aad(),
            fields,
            bytes(16),
        )
        return changes.take(self.vault, box)

    def confirm(self, number):
        for r in self.vault.records():
            if int(r.one(record.ACCOUNT)) == number:
                self.vault.confirm(r)

    def scrub(self):
        self.vault.records()
        while slots.scrub(self.vault):
            pass


def fields_of(number):
    return (
        (record.NAME, b"lamp-7"),
        (record.PROFILE, b"\x03"),
        (record.ACCOUNT, b"%023d" % number),
        (record.PASSWORD, password(number)),
        (record.CONTROL, CONTROL_KEY),
        (record.SERVER, b"broker.example:8883"),
    )


# Each flow: what comes before, what is cut, which accounts may be there after the cut (the first
# one confirmed), how it goes on, what must be there at the end.


def nothing(board):
    pass


def enrolled(board):
    board.enrol(1)
    board.scrub()


def changed(board):
    enrolled(board)
    board.change(2)


def again(step, number):
    def on(board):
        if number not in board.accounts():
            step(board)

    return on


def finish(board):
    if 2 not in board.accounts():
        board.change(2)
    board.confirm(2)


def drop(board):
    slots.drop(board.vault, 1)


def note(board):
    board.vault.records()
    for floor in (10, 20, 30):
        board.vault.note(floor=floor, steps=floor // 10)


def wipe(board):
    board.vault.records()
    board.vault.wipe()


FLOWS = {
    "enrol": (nothing, lambda b: b.enrol(1), ([], [1]), again(lambda b: b.enrol(1), 1), [1]),
    "enrol over": (
        enrolled,
        lambda b: b.enrol(2),
        ([1], [1, 2]),
        again(lambda b: b.enrol(2), 2),
        [1, 2],
    ),
    "change": (enrolled, lambda b: b.change(2), ([1], [1, 2]), finish, [2]),
    "confirm": (changed, lambda b: b.confirm(2), ([1, 2], [2]), finish, [2]),
    "drop": (changed, drop, ([1, 2], [1]), drop, [1]),
    "journal": (enrolled, note, ([1],), note, [1]),
    "scrub": (
        lambda b: (changed(b), b.confirm(2)),
        lambda b: b.scrub(),
        ([2],),
        lambda b: b.scrub(),
        [2],
    ),
    "wipe": (changed, wipe, ([1, 2], []), lambda b: (wipe(b), b.scrub()), []),
}


def bench(store, every, name):
    """(cut points, faults) of one flow."""
    before, step, allowed, go_on, end = FLOWS[name]
    start = bytearray(b"\xff" * (BLOCKS * 4096))
    board = Board(store, start)
    before(board)
    board.off()
    board = Board(store, bytearray(start))
    mounted = board.flash.operations
    step(board)
    total = board.flash.operations
    board.off()
    points = 0
    faults = []
    for cut in range(mounted + 1, total + 1, every):
        for percent in PERCENTS:
            image = bytearray(start)
            board = Board(store, image, cut, percent)
            points += 1
            where = "%s %s %d/%d %d %%" % (store, name, cut, total, percent)
            try:
                step(board)
                faults.append(where + ": was not cut")
            except Cut:
                pass
            board.flash.dead = True
            try:
                board.off()
            except OSError:
                pass
            board = Board(store, image)
            found = board.accounts()
            if found not in allowed:
                faults.append(where + ": %s at boot" % found)
            go_on(board)
            board.off()
            board = Board(store, image)
            if board.accounts() != end:
                faults.append(where + ": %s at the end" % board.accounts())
            board.off()
        gc.collect()
    return points, faults


def remnants(store, rotations):
    """Copies of what is old in the flash after so many rotations: (before, after the scrub).

    Looked for are 16 bytes from anywhere of each old store secret and box: what they are in
    opens nothing without them. The live ones must be found, or the search is worth nothing.
    """
    image = bytearray(b"\xff" * (GEOMETRY[store] * 4096))
    board = Board(store, image)
    board.enrol(1)
    old = []
    live = _kept(board)
    for number in range(2, rotations + 2):
        board.change(number)
        board.confirm(number)
        old.extend(live)
        live = _kept(board)
    before = _copies(image, old)
    board.scrub()
    assert _copies(image, live) >= len(live), "the search does not find what is there"
    after = _copies(image, old)
    board.off()
    return before, after


def _kept(board):
    found = board.vault.records()[0]
    key = bytes(board.store.read("key%d" % found.slot))
    box = bytes(board.store.read("box%d" % found.slot))
    return [key[:16], key[16:], box[32:48], box[48:64], box[-32:-16]]


def _copies(image, values):
    whole = bytes(image)
    return sum(whole.count(value) for value in values)


if __name__ == "__main__":
    if sys.argv[2:] == ["remnants"]:
        print(json.dumps(remnants(sys.argv[1], 20)))
        sys.exit()
    points = {}
    faults = []
    for name in sys.argv[3:] or FLOWS:
        points[name], found = bench(sys.argv[1], int(sys.argv[2]), name)
        faults.extend(found)
    print(json.dumps({"points": points, "faults": faults}))
