"""The port's `sys` and `os`: its name and version, and nothing of the machine underneath."""

import os
import sys
from collections import namedtuple

from . import config

_PORT = config.board["port"]
_VERSION = ".".join(str(n) for n in sys.implementation[1][:3])

_Implementation = namedtuple("implementation", ("name", "version", "_machine", "_mpy", "_build"))
_Uname = namedtuple("uname", ("sysname", "nodename", "release", "version", "machine"))


class Sys:
    """Stands for the module `sys`; what it does not say itself, the real one does."""

    platform = _PORT
    maxsize = 0x7FFFFFFF
    implementation = _Implementation(
        sys.implementation[0],
        sys.implementation[1],
        config.board["machine"],
        sys.implementation._mpy,
        config.board["name"],
    )

    def __getattr__(self, name):
        if name in ("getsizeof", "executable", "exc_info"):
            raise AttributeError(name)
        return getattr(sys, name)


class Os:
    """Stands for the module `os`."""

    def __getattr__(self, name):
        if name in ("getenv", "putenv", "unsetenv", "system", "errno"):
            raise AttributeError(name)
        return getattr(os, name)

    @staticmethod
    def uname():
        """The port, its version, and the board's name."""
        machine = config.board["machine"]
        return _Uname(_PORT, _PORT, _VERSION, sys.version, machine)

    @staticmethod
    def sync():
        """Every write has reached the flash already."""

    @staticmethod
    def dupterm(stream=None, index=0):
        """There is no second terminal."""
        return
