"""Run one enrolment in a process of its own and cut it: `cut.py PORT FOLDER STEP WHO [OPTION...]`.

At STEP, WHO ends at once, as a power cut would end it: `kit` is this process, `board` the
simulated board behind PORT, `nobody` leaves all alone. Used by system/test_enrolment.py.
"""

import os
import signal
import sys
from pathlib import Path

from limpet_kit import cli, enrolment, sim
from limpet_kit.commands import enroll


def main(port, folder, at, who, *options):
    begun = enrolment.enroll, enrolment.activate

    def cutting(step):
        def cut(name, words):
            step(name, words)
            if name == at and who == "kit":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == at and who == "board":
                sim.find(port.removeprefix("sim:")).kill()

        return cut

    def first(board, ledger, settings, plan, step):
        return begun[0](board, ledger, settings, plan, cutting(step))

    def second(board, ledger, settings, unit, step, wait_s):
        return begun[1](board, ledger, settings, unit, cutting(step), wait_s)

    enroll.enrolment.enroll, enroll.enrolment.activate = first, second
    return cli.main(["enroll", port, "--broker", str(Path(folder)), "--wait", "10", *options])


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
