"""Start of a simulated board: the port's modules in place, the flash mounted, boot.py, main.py."""

import errno
import gc
import sys
import time

import vfs

from . import config, control

MARK = "\0limpet board is up\0"  # the host's part cuts it out: from here on the prompt speaks


def install():
    """Put the port's modules in the place of the desktop's."""
    from . import chip, clock, dht, errors, machine, network, sockets, system, tasks

    own = chip.Rp2() if config.board["port"] == "rp2" else chip.Esp32()
    new = {
        "time": clock,
        "machine": machine,
        "dht": dht,
        "network": network,
        "socket": sockets,
        "errno": errors.codes,
        "os": system.Os(),
        config.board["port"]: own,
        "sys": system.Sys(),
    }
    sys.modules.update(new)
    tasks.install()


def mount():
    """The flash's file system as root; made anew when it cannot be mounted, as the ports do."""
    from . import chip

    device = chip.root()
    progsize = config.board["flash"]["progsize"]
    vfs.umount("/")
    try:
        vfs.mount(vfs.VfsLfs2(device, progsize=progsize), "/")
    except OSError:
        if config.board["port"] == "esp32" and not _blank(device):
            # ports/esp32/modules/inisetup.py formats an erased flash only
            control.say("user")
            while True:
                print("The filesystem appears to be corrupted. If you had important data there,")
                print("you may want to make a flash snapshot to try to recover it.")
                time.sleep(3)
        vfs.VfsLfs2.mkfs(device, progsize=progsize)
        vfs.mount(vfs.VfsLfs2(device, progsize=progsize), "/")
        with open("/boot.py", "w") as f:
            f.write("# boot.py -- run on boot-up\n")


def _blank(device):
    block = bytearray(4096)
    device.readblocks(0, block)
    return block == b"\xff" * 4096


def forget():
    """Leave no name of this package behind for a sketch to find."""
    for name in list(sys.modules):
        if name == "port" or name.startswith("port."):
            del sys.modules[name]


def run(names, main):
    """Run boot.py, and main.py when `main` says so, in the namespace `names`."""
    forget()
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    names.clear()
    names["__name__"] = "__main__"
    gc.collect()
    # The port's C takes nothing of a board's heap: what these modules leave is cut to its size.
    config.state["ballast"] = bytearray(gc.mem_free() - config.board["heap_free"])
    control.say("user")
    if _starts() and _run("/boot.py", names) and main:
        _run("/main.py", names)
    sys.stdout.write(MARK)


def _starts():
    """The time in which a board that was reset only listens; False when Ctrl-C came."""
    try:
        time.sleep_ms(config.state.get("starts_ms", 0))
    except KeyboardInterrupt:
        return False
    return True


def _run(path, names):
    try:
        execfile(path, names)
    except SystemExit:
        control.end("soft")
    except OSError as e:
        if e.errno != errno.ENOENT or _exists(path):
            sys.print_exception(e)
            return False
    except BaseException as e:
        sys.print_exception(e)
        return False
    return True


def _exists(path):
    import os

    try:
        os.stat(path)
    except OSError:
        return False
    return True
