"""Cuts the power in every flash operation of the vault's flows, boots, and goes on to the end.

`micropython cuts.py STORE EVERY FIRST [FLOW...]`, STORE as in bench_board.py; every EVERY-th cut
point is tried, from the FIRST on. Prints one line of JSON: cut points and faults. A flow is run
once to its end; each of its operations is then done by 0, 30 and 90 % on the flash before it.
"""

import gc
import json
import sys

from bench_board import NEXT, ROOT, Board
from limpet import slots
from nor import cut

BLOCKS = 24  # a small flash: cut points do not depend on its size
PERCENTS = (0, 30, 90)


class Flow:
    """What comes `before`, the `step` that is cut, what `look` may show at the next boot, how it
    goes on and what it must show at the end; all are functions of a Board, or its results."""

    def look(self, board):
        return board.look()

    def before(self, board):
        pass

    def step(self, board):
        pass

    def go_on(self, board):
        if self.look(board) != self.end:
            self.step(board)

    def allows(self, found, noted):
        """Whether `found` may be there; `noted` is what the step had noted when it was cut."""
        return found in self.allowed


class Enrol(Flow):
    allowed = ([], [1])
    end = [1]

    def step(self, board):
        board.enrol(1)


class Enrolled(Flow):
    """A flow on a board that has a confirmed record and was scrubbed."""

    allowed = ([1],)
    end = [1]

    def before(self, board):
        board.enrol(1)
        board.scrub()


class EnrolOver(Enrolled):
    allowed = ([1], [1, 2])
    end = [1, 2]

    def step(self, board):
        board.enrol(2)


class Change(Enrolled):
    """A new account comes as `new` beside `old`, then alone."""

    old, new = 1, 2

    def __init__(self):
        self.allowed = ([self.old], [self.old, self.new])
        self.end = [self.new]

    def step(self, board):
        board.change(2)

    def go_on(self, board):
        if self.new not in self.look(board):
            self.step(board)
        board.confirm(self.new)


class Changed(Change):
    """A flow on a board that has a pending record."""

    def before(self, board):
        super().before(board)
        Change.step(self, board)


class Confirm(Changed):
    def __init__(self):
        self.allowed = ([1, 2], [2])
        self.end = [2]

    def step(self, board):
        board.confirm(2)


class Drop(Changed):
    def __init__(self):
        self.allowed = ([1, 2], [1])
        self.end = [1]

    def step(self, board):
        slots.drop(board.vault, 1)

    def go_on(self, board):
        self.step(board)


class AddAnchor(Change):
    old, new = 1, 11

    def step(self, board):
        board.anchors(2, ROOT, NEXT)


class RetireAnchor(Change):
    old, new = 11, 31

    def before(self, board):
        super().before(board)
        board.anchors(2, ROOT, NEXT)
        board.confirm(11)
        board.scrub()

    def step(self, board):
        board.anchors(3, NEXT)


class Journal(Enrolled):
    def step(self, board):
        board.vault.records()
        for floor in (10, 20, 30):
            board.vault.note(floor=floor, steps=floor // 10)


class Scrub(Changed):
    allowed = ([2],)
    end = [2]

    def __init__(self):
        pass

    def before(self, board):
        super().before(board)
        board.confirm(2)

    def step(self, board):
        board.scrub()

    def go_on(self, board):
        board.scrub()


class Wipe(Changed):
    def __init__(self):
        self.allowed = ([1, 2], [])
        self.end = []

    def step(self, board):
        board.wipe()

    def go_on(self, board):
        board.wipe()
        board.scrub()


class Outbox(Enrolled):
    """Five messages come, the oldest four go; what was put and not acknowledged is there."""

    end = ([1], [])

    def before(self, board):
        super().before(board)
        board.put(1)

    def look(self, board):
        return board.look(), board.messages()

    def step(self, board):
        for number in (2, 3, 4, 5):
            board.put(number)
            board.flash.noted = (number, number - 1)  # kept, acknowledged from here on
            board.deliver()

    def go_on(self, board):
        while len(board.outbox):
            board.deliver()

    def allows(self, found, noted):
        put, answered = noted or (1, 0)
        records, messages = found
        # At most the one that was on its way again, and the one that was being put.
        whole = list(range(messages[0], messages[-1] + 1)) if messages else []
        first = messages[0] if messages else put + 1
        last = messages[-1] if messages else put
        return (
            records == [1]
            and messages == whole
            and first in (answered, answered + 1)
            and last in (put, put + 1)
        )


FLOWS = {
    "enrol": Enrol,
    "enrol over": EnrolOver,
    "change": Change,
    "confirm": Confirm,
    "drop": Drop,
    "anchor add": AddAnchor,
    "anchor retire": RetireAnchor,
    "journal": Journal,
    "scrub": Scrub,
    "wipe": Wipe,
    "outbox": Outbox,
}


def bench(store, every, first, name):
    """(cut points, faults) of one flow."""
    flow = FLOWS[name]()
    image = bytearray(b"\xff" * (BLOCKS * 4096))
    board = Board(store, image)
    flow.before(board)
    board.off()
    log = []
    board = Board(store, bytearray(image), log)
    flow.step(board)
    board.off()
    points = 0
    faults = []
    for number, (at, new, noted) in enumerate(log):
        if number % every == first:
            for percent in PERCENTS:
                points += 1
                left = cut(image, at, new, percent, 12345 + number * 7 + percent)
                fault = _after(flow, store, left, noted)
                if fault:
                    where = "%s %s %d/%d %d %%: " % (store, name, number, len(log), percent)
                    faults.append(where + fault)
            gc.collect()
        image[at : at + len(new)] = new
    return points, faults


def _after(flow, store, image, noted):
    """What is wrong with the board that was left with this image, empty when nothing is."""
    board = Board(store, image)
    found = flow.look(board)
    fault = "" if flow.allows(found, noted) else "%s at boot" % (found,)
    flow.go_on(board)
    board.off()
    board = Board(store, image)
    found = flow.look(board)
    board.off()
    return fault if found == flow.end else fault + " %s at the end" % (found,)


if __name__ == "__main__":
    store, every, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    names = sys.argv[4:] or [n for n in FLOWS if store != "raw" or n != "outbox"]
    points = {}
    faults = []
    for name in names:
        points[name], found = bench(store, every, first, name)
        faults.extend(found)
    print(json.dumps({"points": points, "faults": faults}))
