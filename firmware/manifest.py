# For a firmware of your own with Limpet frozen in: see MicroPython's manual, "manifest files".
#   make -C ports/rp2 BOARD=RPI_PICO_W FROZEN_MANIFEST=.../firmware/manifest.py
# The vault then lies in files. With sectors of its own, or without a prompt: boards/*/deploy.md.
# Not tried on hardware.
include("$(PORT_DIR)/boards/manifest.py")
include("frozen/limpet.py")
