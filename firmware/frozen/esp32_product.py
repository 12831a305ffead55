# A product: no prompt, no files that could be run; the vault is in the partition `limpet`.
include("$(MPY_DIR)/extmod/asyncio")
module("_boot.py", base_path="product")
include("limpet.py")
