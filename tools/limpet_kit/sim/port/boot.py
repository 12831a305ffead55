"""What MicroPython runs first: `boot.py FOLDER`, its last act is to leave no trace here.

The board's state comes in the environment: an argument may have 255 bytes only.
"""

import json
import os
import sys

sys.path[:] = [
    sys.argv[0].rsplit("/", 2)[0],
    ".frozen",
]  # not this folder: its machine.py is not the real one
from port import config, control  # noqa: E402

state = json.loads(os.getenv("LIMPET_SIM_STATE"))
control.attach(state.get("pipe"))
config.load(sys.argv[1], state)
from port import start  # noqa: E402

start.install()
start.mount()
start.run(globals(), state["main"])
