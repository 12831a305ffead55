# For a firmware of your own with Limpet frozen in: see MicroPython's manual, "manifest files".
#   make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=.../firmware/manifest.py
# Not tried on hardware.
metadata(description="Limpet device client", version="0.1.0")  # noqa: F821
include("$(PORT_DIR)/boards/manifest.py")  # noqa: F821
require("umqtt.simple")  # noqa: F821  the blocking drop-in builds on these two
require("umqtt.robust")  # noqa: F821
package("limpet", base_path="../lib")  # noqa: F821
module("main.py")  # noqa: F821
