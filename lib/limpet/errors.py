"""What can go wrong on the way to the server: three classes, each with a cause code and facts."""

import sys


class LimpetError(Exception):
    """`code` is a cause in capitals; `facts` are what its sentence (words.py) names beside."""

    def __init__(self, code, *facts):
        super().__init__(code, *facts)
        self.code = code
        self.facts = facts

    @property
    def words(self):
        """One sentence for a person, of at most 200 characters."""
        try:
            from . import words

            return words.of(self.code, self.facts)
        except (ImportError, MemoryError):
            return self.code
        finally:
            forget("words")

    def __str__(self):
        return self.words


class Lost(LimpetError):
    """The network, the name, the server or the connection: try again soon."""


class Untrusted(LimpetError):
    """The server is not proven to be ours; nothing secret was sent."""


class Refused(LimpetError):
    """Our server refused this device's account (CONNACK 4 or 5 on a verified link)."""


def fault(error):
    """The Lost for an exception that nobody meant: no memory, or a fault of ours."""
    if isinstance(error, MemoryError):
        return Lost("MEMORY", error)
    return Lost("ERROR", repr(error))


def forget(*names):
    """Give back the memory of modules needed seldom; they are loaded again the next time."""
    package = __name__.rpartition(".")[0]
    for name in names:
        if sys.modules.pop("%s.%s" % (package, name), None):
            delattr(sys.modules[package], name)
