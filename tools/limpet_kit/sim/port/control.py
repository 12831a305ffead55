"""The wire to the host's part: resets, the watchdog, and what outlives a reset."""

import json
import time

import uctypes

_pipe = None


def attach(fd):
    """Use this open file descriptor; None when there is no host's part."""
    global _pipe
    _pipe = open(fd, "wb") if fd is not None else None


def say(word, *values):
    """One line to the host's part."""
    if _pipe:
        _pipe.write(json.dumps((word,) + values) + "\n")


def end(word, *values):
    """Say this and never come back: the host's part ends this process at once.

    Without one it dies of a bad address: nothing of a sketch may run on.
    """
    say(word, *values)
    if not _pipe:
        uctypes.bytearray_at(0, 1)[0] = 0
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass


def keep(name, value):
    """Have `value` in `config.state` after the next soft reset."""
    say("keep", name, value)
