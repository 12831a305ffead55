# A firmware of an RP2 with Limpet inside; prompt and files stay, the vault has sectors of its own.
freeze("$(PORT_DIR)/modules", "rp2.py")  # without its _boot.py, which takes the whole storage
include("$(MPY_DIR)/extmod/asyncio")
module("_boot.py", base_path="rp2")
module("limpet_board.py", base_path="rp2")
include("limpet.py")
