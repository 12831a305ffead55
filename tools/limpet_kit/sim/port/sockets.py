"""The port's `socket`: its constants, states, poll flags and errors around a desktop socket.

What differs by port stands in facts of the ports' sources: extmod/modlwip.c for rp2,
ports/esp32/modsocket.c for esp32. Settings: `connect_ms` delays a connection; `address` is where
the board's own connections come from, so that a server on this machine can tell boards apart.
"""

import io
import select
import socket as _host
from time import sleep_ms, ticks_diff, ticks_ms

from micropython import const

from . import config, errors, names, network
from .errors import codes
from .flow import Flow
from .names import AF_INET, AF_INET6, getaddrinfo  # noqa: F401

_RP2 = config.board["port"] == "rp2"

SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_RAW = 3
SOL_SOCKET = 1 if _RP2 else 0xFFF
SO_REUSEADDR = 4
SO_BROADCAST = 0x20
IPPROTO_IP = 0
IPPROTO_TCP = 6
IP_ADD_MEMBERSHIP = 0x400 if _RP2 else 3
IP_DROP_MEMBERSHIP = 0x401 if _RP2 else 4
TCP_NODELAY = 0x40 if _RP2 else 1  # rp2: lwIP's flag TF_NODELAY

_IN = const(1)
_OUT = const(4)
_ERR = const(8)
_HUP = const(16)

_NEW = const(0)
_CONNECTING = const(1)
_CONNECTED = const(2)
_ENDED = const(3)  # the peer has closed, or the error has been told
_FAILED = const(4)
_LISTENING = const(5)
_CLOSED = const(6)

_SYN_MS = const(75_000)  # until an unanswered connect fails; lwIP: six SYNs
_HOST_SNDBUF = const(7)  # Linux's SO_SNDBUF: a peer that does not read is noticed soon


class socket(io.IOBase):
    """A TCP or UDP socket of the port."""

    def __init__(self, family=AF_INET, kind=SOCK_STREAM, proto=0, host=None):
        self._stream = kind == SOCK_STREAM
        self._host = host or _host.socket(family, kind)
        self._host.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._host, _IN | _OUT)
        self._state = _CONNECTED if host else _NEW
        self._timeout = None  # ms; 0: never wait
        self._error = 0
        self._where = None  # to be connected once packets pass
        self._flow = None
        if self._stream:
            self._host.setsockopt(1, _HOST_SNDBUF, 16_384)
            self._flow = Flow(self._host_write)

    # -- connecting

    def connect(self, address):
        """Begin; a socket that must not wait raises EINPROGRESS and is writable once it is up."""
        if not isinstance(address, (tuple, list)):
            raise TypeError("object with buffer protocol isn't a tuple")
        if not names.numeric(address[0]):
            if _RP2:
                raise ValueError("invalid arguments")
            address = getaddrinfo(address[0], address[1])[0][-1]
        if self._state != _NEW:
            raise OSError(codes.EALREADY if self._state == _CONNECTING else 106 if _RP2 else 127)
        where = names.sockaddr(address)
        if not self._stream:
            self._host.connect(where)
            self._state = _CONNECTED
            return
        if not network.online():
            raise OSError(codes.EHOSTUNREACH)
        self._state = _CONNECTING
        self._where = where
        self._since = ticks_ms()
        self._advance()
        if self._timeout == 0:
            raise OSError(codes.EINPROGRESS)
        self._wait(self._settled)

    def _settled(self):
        self._advance()
        if self._state == _FAILED:
            self._raise()
        return None if self._state == _CONNECTING else True

    def _advance(self):
        """Bring the state up to date with the desktop's socket."""
        if self._state == _CONNECTING:
            self._advance_connect()
        elif self._state == _CONNECTED and self._stream:
            self._flow.advance()

    def _advance_connect(self):
        passed = ticks_diff(ticks_ms(), self._since)
        if not network.passing():
            if passed > _SYN_MS:
                self._fail(codes.ETIMEDOUT)
            return
        if self._where:
            own = config.recent("address")
            try:
                if own and "." in names.plain(self._where)[0]:
                    self._host.bind(names.sockaddr((own, 0)))
                self._host.connect(self._where)
            except OSError as e:
                if errors.of(e) != codes.EINPROGRESS:
                    self._fail(errors.of(e))
            self._where = None
        if passed < config.recent("connect_ms", 5):
            return
        flags = self._flags_of_host()
        if flags & (_ERR | _HUP):
            try:
                self._host.recv(1)
                self._fail(codes.ECONNRESET)
            except OSError as e:
                self._fail(errors.of(e))
        elif flags & _OUT:
            self._state = _CONNECTED
        elif passed > _SYN_MS:
            self._fail(codes.ETIMEDOUT)

    def _fail(self, number):
        self._state = _FAILED
        self._error = number

    def _raise(self):
        """Tell an error; it is told once."""
        self._state = _ENDED
        raise OSError(self._error)

    # -- reading

    def _receive_into(self, buf):
        """Bytes read, 0 at the end, None when there are none yet."""
        self._advance()
        if self._state == _FAILED:
            self._raise()
        if self._state == _ENDED:
            return 0
        if self._state in (_NEW, _CLOSED) and self._stream:
            raise OSError(codes.ENOTCONN)
        if self._state == _CONNECTING or not network.passing():
            return None
        try:
            n = self._host.readinto(buf)
        except OSError as e:
            self._state = _ENDED
            raise OSError(errors.of(e))
        if n == 0 and self._stream:
            self._state = _ENDED
        return n

    def readinto(self, buf, n=None):
        """Stream: bytes read into buf, 0 at the end, None when none are there yet."""
        if n is not None:
            buf = memoryview(buf)[:n]
        return self._wait(self._receive_into, buf)

    def read(self, n=-1):
        """Stream: n bytes, or all to the end; None when none are there yet."""
        found = b""
        while n < 0 or len(found) < n:
            buf = bytearray(512 if n < 0 else n - len(found))
            got = self.readinto(buf)
            if not got:
                return None if got is None and not found else found
            found += buf[:got]
        return found

    def readline(self):
        """Stream: up to a line's end."""
        found = b""
        while not found.endswith(b"\n"):
            byte = self.read(1)
            if not byte:
                return None if byte is None and not found else found
            found += byte
        return found

    def recv(self, n, flags=0):
        """At most n bytes; raises EAGAIN when there are none yet."""
        buf = bytearray(n)
        got = self.readinto(buf)
        if got is None:
            raise OSError(codes.EAGAIN)
        return bytes(buf[:got])

    def recvfrom(self, n):
        """(bytes, address); raises EAGAIN when there are none yet."""
        found = self._wait(self._receive_from, n)
        if found is None:
            raise OSError(codes.EAGAIN)
        return found

    def _receive_from(self, n):
        if not network.passing():
            return None
        try:
            data, where = self._host.recvfrom(n)
        except OSError as e:
            if errors.of(e) == codes.EAGAIN:
                return None
            raise OSError(errors.of(e))
        return data, names.plain(where)

    # -- writing

    def _host_write(self, data):
        try:
            return self._host.write(data)
        except OSError as e:
            self._fail(errors.of(e))
            return 0

    def _send_from(self, buf):
        self._advance()
        if self._state == _FAILED:
            self._raise()
        if self._state == _CONNECTING:
            return None
        if self._state != _CONNECTED:
            raise OSError(codes.ENOTCONN)
        if not self._stream:
            return self._datagram(self._host.send, buf)
        if not len(buf):
            return 0
        if self._flow.room() <= 0:
            return None
        n = self._flow.put(buf)
        if self._state == _FAILED:
            self._raise()
        return n

    def write(self, buf, off=None, n=None):
        """Stream: bytes taken, which may be fewer; None when there is no room."""
        if off is not None:
            buf = memoryview(buf)[off:] if n is None else memoryview(buf)[off : off + n]
        return self._wait(self._send_from, buf)

    def send(self, buf):
        """Bytes taken; raises EAGAIN when there is no room."""
        n = self.write(buf)
        if n is None:
            raise OSError(codes.EAGAIN)
        return n

    def sendall(self, buf):
        """Everything, or an error."""
        view = memoryview(buf)
        while len(view):
            view = view[self.send(view) :]

    def sendto(self, buf, address):
        """One datagram."""
        return self._datagram(self._host.sendto, buf, names.sockaddr(address))

    def _datagram(self, send, buf, *where):
        if not network.online():
            raise OSError(codes.EHOSTUNREACH)
        if not network.passing():
            return len(buf)
        try:
            return send(buf, *where)
        except OSError as e:
            raise OSError(errors.of(e))

    # -- the rest

    def _wait(self, attempt, *arguments):
        """Try until there is a result, as long as this socket may wait."""
        began = ticks_ms()
        while True:
            result = attempt(*arguments)
            if result is not None or self._timeout == 0:
                return result
            if self._timeout is not None and ticks_diff(ticks_ms(), began) >= self._timeout:
                raise OSError(codes.ETIMEDOUT)
            sleep_ms(1)

    def setblocking(self, on):
        """True: wait; False: never."""
        self._timeout = None if on else 0

    def settimeout(self, seconds):
        """None: wait for ever; 0: never."""
        self._timeout = None if seconds is None else int(seconds * 1000)

    def setsockopt(self, level, option, value):
        """The port's few options. Any other is a mistake in a sketch: rp2 ignores it in silence,
        so it is an error here that no `except OSError` hides."""
        if level == IPPROTO_TCP and option == TCP_NODELAY and self._stream:
            self._flow.no_delay = bool(value)
            self._host.setsockopt(6, 1, 1 if value else 0)
        elif level == SOL_SOCKET and option == SO_REUSEADDR:
            self._host.setsockopt(_host.SOL_SOCKET, _host.SO_REUSEADDR, value)
        elif level == SOL_SOCKET and option == SO_BROADCAST:
            self._host.setsockopt(_host.SOL_SOCKET, _host.SO_BROADCAST, value)
        elif level == IPPROTO_IP and option == IP_ADD_MEMBERSHIP:
            self._host.setsockopt(0, _host.IP_ADD_MEMBERSHIP, value)
        else:
            raise NotImplementedError("this port has no socket option %d of %d" % (option, level))

    def bind(self, address):
        """The local address."""
        try:
            self._host.bind(names.sockaddr(address or ("0.0.0.0", 0)))
        except OSError as e:
            raise OSError(errors.of(e))

    def listen(self, backlog=2):
        """Take connections."""
        self._host.listen(backlog)
        self._state = _LISTENING

    def accept(self):
        """(socket, address) of a new connection; raises EAGAIN when there is none yet."""
        found = self._wait(self._accept)
        if found is None:
            raise OSError(codes.EAGAIN)
        return found

    def _accept(self):
        try:
            new, where = self._host.accept()
        except OSError as e:
            if errors.of(e) == codes.EAGAIN:
                return None
            raise OSError(errors.of(e))
        return socket(host=new), names.plain(where)

    def makefile(self, mode="rb", buffering=0):
        """The socket is a stream."""
        return self

    def close(self):
        """Give it back; a second time does nothing."""
        if self._state != _CLOSED:
            self._advance()  # what was taken is still sent
            self._state = _CLOSED
            self._host.close()

    # -- polling

    def ioctl(self, request, argument):
        """What `select.poll` and asyncio ask for."""
        if request == 3:
            return self._flags(argument)
        if request == 4:
            self.close()
            return 0
        return -22

    def _flags_of_host(self):
        for found in self._poll.poll(0):
            return found[1]
        return 0

    def _flags(self, wanted):
        self._advance()
        state = self._state
        if state == _CLOSED:
            return 32
        if state == _NEW and self._stream:
            return _HUP | (wanted & _OUT)
        if state == _CONNECTING:
            return 0
        if state == _FAILED:
            return _ERR | _HUP | (wanted & (_IN | _OUT)) if _RP2 else wanted & (_IN | _OUT)
        if state == _ENDED:
            return wanted & (_IN | _OUT) if _RP2 else wanted & _IN
        flags = 0
        if network.passing():
            flags = self._look() & wanted
            if self._state != state:
                return self._flags(wanted)
        if wanted & _OUT and (not self._stream or self._flow.room() > 0):
            flags |= _OUT
        return flags

    def _look(self):
        """IN when the desktop's socket has something; notices a reset and, on rp2, the end."""
        flags = self._flags_of_host()
        if not flags & (_IN | _ERR | _HUP):
            return 0
        if not self._stream or self._state == _LISTENING:
            return _IN
        try:
            if not self._host.recv(1, _host.MSG_PEEK) and _RP2:
                self._state = _ENDED
        except OSError as e:
            if errors.of(e) == codes.EAGAIN:
                return 0
            self._fail(errors.of(e))
        return _IN
