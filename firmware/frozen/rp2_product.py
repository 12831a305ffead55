# A product: no prompt, no files that could be run; the vault is in sectors of its own.
freeze("$(PORT_DIR)/modules", "rp2.py")
include("$(MPY_DIR)/extmod/asyncio")
module("_boot.py", base_path="product")
module("limpet_board.py", base_path="rp2")
include("limpet.py")
