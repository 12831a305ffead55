# A firmware of an ESP32 with Limpet inside; the prompt and the files stay.
include("$(PORT_DIR)/boards/manifest.py")
include("limpet.py")
