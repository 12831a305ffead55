"""Feeds damaged certificates to the DER reader and to trust; runs on both interpreters.

`fuzz_x509.py COUNT SEED`, with the library and host_tests/unit on the path. The last line is
JSON: how many were read, refused by the reader (ValueError), refused by trust. Anything else that
is raised ends the run.
"""

import json
import sys

SAMPLES = (
    "ROOT LIMITED BETWEEN LEAF RSA RSA1024 P224 P521 SHA1 WILDCARD ADDRESS OTHER UNNAMED FOR_BOTH"
)


class Random:
    """Marsaglia's xorshift32: the same on every interpreter."""

    def __init__(self, seed):
        self._state = seed or 1

    def below(self, n):
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        return x % n


def damage(der, random):
    """One to four changes, most of them where structure is: tags, lengths, ends."""
    data = bytearray(der)
    for _ in range(1 + random.below(4)):
        at = random.below(len(data))
        kind = random.below(7)
        if kind == 0:
            data[at] ^= 1 << random.below(8)
        elif kind == 1:
            data[at] = random.below(256)
        elif kind == 2:
            data[at] = (0, 1, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x84, 0xFF, 0x30, 0x06)[
                random.below(11)
            ]
        elif kind == 3:
            data = data[: at + 1]
        elif kind == 4:  # a part twice
            data = data[:at] + data[at - random.below(at + 1) : at] + data[at:]
        elif kind == 5:  # a part missing
            data = data[:at] + data[at + random.below(16) :]
        else:
            data = (
                data[:at] + bytes([random.below(256) for _ in range(random.below(8))]) + data[at:]
            )
        if not data:
            data = bytearray(1)
    return data


def main(count, seed):
    import certificates
    from limpet import trust, words, x509

    samples = [getattr(certificates, name) for name in SAMPLES.split()]
    random = Random(seed)
    judge = trust.Trust([certificates.ROOT], "broker.example", now=lambda: 1780000000)
    read = malformed = refused = 0
    for i in range(count):
        data = memoryview(damage(samples[random.below(len(samples))], random))
        try:
            x509.Certificate(data)
            read += 1
            why = judge._look(data, i & 1)
            refused += why is not None
            told = words.of(why[0], why[1:]) if why else ""
            if len(told.encode()) > 200 or "\n" in told:
                raise RuntimeError(why)
        except ValueError:
            malformed += 1
        if judge._check(data, i & 1) not in (0, -0x3000):
            raise RuntimeError("the callback's value")
        judge._begin()
    print(json.dumps({"count": count, "read": read, "malformed": malformed, "refused": refused}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
