"""A script on the port's modules without a board: `alone.py FOLDER SCRIPT ARGUMENT...`.

FOLDER has board.json and settings.json as a simulated board's (`sim.describe`). The station is
connected, files are the machine's own, and MICROPYPATH holds. There is no flash, no reset and no
watchdog: what would end the board ends the process.
"""

import sys
import time

path = sys.path[1:]
sys.path[:] = [sys.argv[0].rsplit("/", 2)[0], ".frozen"]
from port import config  # noqa: E402

config.load(
    sys.argv[1],
    {
        "started": time.ticks_ms(),
        "cause": "power",
        "hard_cause": "power",
        "wlan": {"on": True, "ssid": "alone"},
    },
)
config.state["backup"] = "00" * config.board["backup"]
from port import start  # noqa: E402

start.install()
start.forget()
script = sys.argv[2]
sys.argv[:] = sys.argv[2:]
sys.path[:] = [script.rpartition("/")[0]] + path
execfile(script, {"__name__": "__main__", "__file__": script})
