"""Mutation fuzzer of the packet parser; one file for CPython and MicroPython.

    micropython mutate.py COUNT SEED

Each input is a stream of valid packets, damaged one to six times, and is parsed twice, cut into
other pieces: both must find the same packets and end in the same cause. Anything but `Lost` that
comes out is a fault: the input is printed in hex, and the exit code is 1. The last line is JSON.
"""

import json
import sys
import time

if sys.implementation.name != "micropython":
    host_tests = __file__.rpartition("/fuzz/")[0]
    sys.path[:0] = [host_tests, host_tests + "/../lib"]
    from rig.shims import install

    install()

from limpet.errors import Lost
from limpet.packets import In, matches

_BUFFER = 96  # small, so that "too big" and "moved to the front" are met all the time

SEEDS = (
    b"\x20\x02\x00\x00",
    b"\x20\x02\x01\x05",
    b"\x40\x02\x00\x02",
    b"\x40\x02\xff\xff\x40\x02\x00\x03\x40\x02\x00\x04",
    b"\x90\x03\x00\x01\x01",
    b"\x90\x05\x00\x01\x01\x80\x00",
    b"\xd0\x00",
    b"\x30\x0b\x00\x05a/b/cvalue"[:13],
    b"\x31\x05\x00\x03a/b",
    b"\x32\x0d\x00\x05a/b/c\x00\x07on!!"[:15],
    b"\x3a\x0a\x00\x03a/b\xff\xffxyz",
    b"\x30\x80\x01\x00\x10" + b"t" * 16 + b"p" * 110,
    b"\x30\x40\x00\x07$SYS/up" + b"8" * 55,
    b"\x30\xff\xff\xff\x7f\x00\x01a",
    b"\xd0\x00\x40\x02\x00\x09\x30\x06\x00\x01aabc\x90\x03\x00\x01\x01",
)
FILTERS = (b"a/b", b"a/+/c", b"#", b"+/b/#", b"$SYS/#", b"a/b/#", b"/+")
_BYTES = (0, 1, 2, 0x20, 0x30, 0x32, 0x36, 0x40, 0x7F, 0x80, 0x90, 0xD0, 0xFF)


class Random:
    """A 32-bit xorshift: the same numbers on every interpreter, and fast on each."""

    def __init__(self, seed):
        self._x = (seed * 2654435761 + 1) & 0xFFFFFFFF or 1

    def below(self, n):
        x = self._x
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self._x = x
        return (x >> 3) % n


def damaged(random):
    """One input."""
    data = bytearray(SEEDS[random.below(len(SEEDS))])
    for _ in range(random.below(3)):
        data.extend(SEEDS[random.below(len(SEEDS))])
    for _ in range(1 + random.below(6)):
        n = len(data)
        how = random.below(7) if n else 2
        at = random.below(n) if n else 0
        if how == 0:
            data[at] ^= 1 << random.below(8)
        elif how == 1:
            data[at] = _BYTES[random.below(len(_BYTES))]
        elif how == 2:
            data = data[:at] + bytes((random.below(256),)) + data[at:]
        elif how == 3:
            data = data[:at] + data[at + 1 + random.below(4) :]
        elif how == 4:
            data = data[:at]
        elif how == 5:  # a piece of itself somewhere else
            to = random.below(n)
            data = data[:to] + data[at : at + 1 + random.below(12)] + data[to:]
        else:
            data[at] = random.below(256)
    return data


def parse(in_, data, random):
    """Feed `data` in random pieces; what was found, as numbers and words."""
    in_.have = in_.end = 0
    found = []
    at = 0
    most = (1, 3, 17, 300)[random.below(4)]
    try:
        while at < len(data):
            room = in_.room()
            n = min(len(room), 1 + random.below(most), len(data) - at)
            if not n:
                found.append("stuck: no room is left and no packet was found")
                break
            room[:n] = data[at : at + n]
            at += n
            in_.have += n
            while in_.next():
                look(in_, found)
    except Lost as e:
        found.append(e.code)
    return found


def look(in_, found):
    """Take one packet as the session does, and check what the parser says about it."""
    if not 0 < in_.at <= in_.end <= in_.have <= len(in_.buf):
        found.append("bounds of the packet: %d %d %d" % (in_.at, in_.end, in_.have))
    found.append(in_.op)
    found.append(bytes(in_.view[in_.at : in_.end]))
    if in_.op & 0xF0 == 0x30:
        in_.publish()
        if not in_.at + 2 <= in_.topic_end <= in_.payload <= in_.end:
            found.append("bounds of the PUBLISH: %d %d" % (in_.topic_end, in_.payload))
        if in_.pid != (in_.op & 2 and (in_.buf[in_.payload - 2] << 8 | in_.buf[in_.payload - 1])):
            found.append("packet id %d" % in_.pid)
        topic = in_.view[in_.at + 2 : in_.topic_end]
        for pattern in FILTERS:
            found.append(matches(pattern, topic))


def run(count, seed, first=0):
    """The faults found, as lines of text. Input `i` depends on `seed + i` alone."""
    faults = []
    in_ = In(_BUFFER)
    for i in range(first, first + count):
        random = Random(seed + i)
        data = damaged(random)
        try:
            one = parse(in_, data, random)
            other = parse(in_, data, random)
        except Exception as e:
            faults.append("%s: %r" % (data.hex(), e))
            continue
        if one != other:
            faults.append("%s: parsed differently when cut differently" % data.hex())
        for word in one:
            if isinstance(word, str) and " " in word:
                faults.append("%s: %s" % (data.hex(), word))
        if len(faults) > 20:
            break
    return faults


def main():
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    begun = time.time()
    faults = run(count, seed)
    for line in faults:
        print(line)
    print(
        json.dumps(
            {"inputs": count, "seed": seed, "faults": len(faults), "s": int(time.time() - begun)}
        )
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
