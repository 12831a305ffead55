"""The file system behind the vault's sectors. As the port does, one that cannot be mounted is made
anew; the vault is not touched by that."""

import rp2
import vfs
from limpet_board import VAULT

device = rp2.Flash(start=VAULT)
try:
    files = vfs.VfsLfs2(device, progsize=256)
except OSError:
    vfs.VfsLfs2.mkfs(device, progsize=256)
    files = vfs.VfsLfs2(device, progsize=256)
vfs.mount(files, "/")

del device, files
