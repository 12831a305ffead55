"""The port's `errno`: the names of py/moderrno.c; rp2 has Linux's numbers, esp32 newlib's."""

import errno as _host

from . import config

_NEWLIB = {
    "EADDRINUSE": 112,
    "EALREADY": 120,
    "ECONNABORTED": 113,
    "EHOSTUNREACH": 118,
    "EINPROGRESS": 119,
    "ENOTCONN": 128,
    "ETIMEDOUT": 116,
}
_EPIPE = 32  # the desktop's numbers that no port has a name for
_ENETUNREACH = 101
_ECONNREFUSED = 111  # lwIP knows an answer with RST only as a reset (err.c)


class Errno:
    """Stands for the module `errno`."""

    def __init__(self):
        self.errorcode = {}
        for number, name in _host.errorcode.items():
            if config.board["port"] == "esp32":
                number = _NEWLIB.get(name, number)
            setattr(self, name, number)
            self.errorcode[number] = name


# Not named errno: the compiler puts the desktop's own number for `errno.NAME` in source text.
codes = Errno()


def of(e):
    """The port's number for an error of the desktop's sockets."""
    number = e.errno
    if number in (_EPIPE, _ECONNREFUSED):
        return codes.ECONNRESET
    if number == _ENETUNREACH:
        return codes.EHOSTUNREACH
    return getattr(codes, _host.errorcode.get(number, ""), number)
