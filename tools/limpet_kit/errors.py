"""The one exception of the kit, and the exit codes that scripts may rely on."""

from __future__ import annotations

# Exit codes of every command. The table in README.md is made from this one.
OK = 0
FAILED = 1  # something else went wrong; the sentence says what
USAGE = 2  # the command line is not understood (argparse's own code)
NO_BOARD = 3  # port missing, busy, not allowed, or no MicroPython behind it
NO_SPACE = 4  # the board cannot hold what should be written
ENROLLED = 5  # the board, or the name, is enrolled already
NO_BROKER = 6  # broker folder missing or broken, port taken, broker too old or not reachable
NO_NETWORK = 7  # the board needs a Wi-Fi network and none was given
REFUSED = 8  # the kit will not do this: it would be unsafe
NOT_ONLINE = 9  # everything was written, but the board did not come online in time
DEMO_FAILED = 10  # a step of the demo's proof did not hold
LIES_OPEN = 11  # the audit found what the level asked for excludes
FELL_FOR_IT = 12  # the device fell for an attack, or did not come to one
NOT_FIT = 13  # no board would log in at this server, as it is
INTERRUPTED = 130  # Ctrl-C

MEANINGS = {
    OK: "done",
    FAILED: "something went wrong; the sentence says what",
    USAGE: "the command line is not understood",
    NO_BOARD: "no board to talk to: port missing, busy, not allowed, or no MicroPython behind it",
    NO_SPACE: "the board has no room for what should be written",
    ENROLLED: "the board or the name is enrolled already",
    NO_BROKER: "the broker: folder missing, port taken, program too old, not reachable",
    NO_NETWORK: "the board needs a Wi-Fi network and none was given",
    REFUSED: "refused because it would be unsafe",
    NOT_ONLINE: "written, but the board did not come online in time",
    DEMO_FAILED: "a step of the demo did not hold",
    LIES_OPEN: "the audit found open what the level asked for excludes",
    FELL_FOR_IT: "the device fell for an attack, or did not come to one",
    NOT_FIT: "no board would log in at the server as it is",
    INTERRUPTED: "interrupted by Ctrl-C",
}


class KitError(Exception):
    """What is wrong and what to do about it, in one sentence, with an exit code."""

    def __init__(self, words: str, code: int = FAILED) -> None:
        super().__init__(words)
        self.code = code
