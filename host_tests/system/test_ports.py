"""Each imitation of a port bites: a client that breaks the rule fails there, one that keeps it
passes. The rules: MicroPython's ports, told apart in the modules of `limpet_kit/sim/port`."""

import contextlib
import socket
import ssl
import struct
import textwrap
import threading

import pytest
from rig.micropython import PORTS

both = pytest.mark.parametrize("port", PORTS)


@pytest.fixture
def device(micropython, tmp_path):
    """`device(port, code, *arguments, **settings)` -> the words that the code printed."""

    def run(port, code, *arguments, **settings):
        script = tmp_path / "script.py"
        world = f"SETTINGS = {str(micropython.folder / port / 'settings.json')!r}\n"
        script.write_text("import socket, select, time\n" + world + textwrap.dedent(code))
        done = micropython(script, *arguments, port=port, settings=settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split()

    return run


class Server:
    """Takes one connection; what it got is in `got` after `end`."""

    def __init__(self, serve=None, context=None):
        self._serve = serve
        self._context = context
        self.got = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        peer, _ = self._listener.accept()
        if self._context:
            peer = self._context.wrap_socket(peer, server_side=True)
        with peer, contextlib.suppress(OSError):
            if self._serve:
                self._serve(peer)
            while data := peer.recv(4096):
                self.got += data

    def end(self):
        self._thread.join(10)
        self._listener.close()
        return self.got


CONNECTED = """
import sys
s = socket.socket()
s.setblocking(False)
s.setsockopt(6, socket.TCP_NODELAY, int(sys.argv[2]))
p = select.poll()
p.register(s, select.POLLOUT)
try: s.connect(("127.0.0.1", int(sys.argv[1])))
except OSError as e: pass
p.poll(2000)
"""


def on(device, port, server, code, no_delay=0, **settings):
    script = CONNECTED + textwrap.dedent(code)
    return device(port, script, server.port, no_delay, **settings)


# -- options and addresses


def test_tcp_nodelay_is_not_1_on_rp2(device):
    code = "socket.socket().setsockopt(6, {}, 1)\nprint('set')\n"
    assert device("SIM_RP2", code.format("socket.TCP_NODELAY")) == ["set"]
    with pytest.raises(AssertionError, match="no socket option 1 of 6"):
        device("SIM_RP2", code.format(1))
    assert device("SIM_ESP32", code.format(1)) == ["set"]


@both
def test_other_options_fail_even_where_a_sketch_hides_errors(device, port):
    code = "try: socket.socket().setsockopt(socket.SOL_SOCKET, 9, 1)\nexcept OSError: pass\n"
    with pytest.raises(AssertionError, match="no socket option 9"):
        device(port, code)


@both
def test_a_name_has_one_address_a_tuple(device, port):
    code = "rows = socket.getaddrinfo('a.test', 80)\nprint(len(rows), *rows[0][-1])\n"
    assert device(port, code, hosts={"a.test": "127.0.0.9"}) == ["1", "127.0.0.9", "80"]
    assert device(port, "try: socket.socket().connect(b'x' * 16)\nexcept TypeError: print(1)\n")


@pytest.mark.parametrize(("port", "least"), [("SIM_RP2", 300), ("SIM_ESP32", 300)])
def test_a_dead_resolver_blocks_and_its_error_is_a_number(device, port, least):
    code = """
        t = time.ticks_ms()
        try: socket.getaddrinfo("a.test", 80)
        except OSError as e: print(e.errno, time.ticks_diff(time.ticks_ms(), t))
    """
    number, passed = device(port, code, resolver_dead=True, resolver_wait_ms=300)
    assert number == "-2" and int(passed) >= least


def test_error_numbers_are_newlibs_on_esp32(device):
    code = """
        from errno import EINPROGRESS, ETIMEDOUT
        s = socket.socket()
        s.settimeout(0)
        try: s.connect(("127.0.0.1", 1))
        except OSError as e: print(e.errno, EINPROGRESS, ETIMEDOUT)
    """
    assert device("SIM_ESP32", code) == ["119", "119", "116"]
    assert device("SIM_RP2", code) == ["115", "115", "110"]


# -- connecting and polling


@both
def test_a_connection_comes_late(device, port):
    """Breaks the rule: writes at once. Keeps it: waits for POLLOUT."""
    code = """
        import sys
        s = socket.socket()
        s.setblocking(False)
        p = select.poll()
        p.register(s, select.POLLOUT)
        try: s.connect(("127.0.0.1", int(sys.argv[1])))
        except OSError: pass
        print(s.write(b"early"), len(p.poll(0)), len(p.poll(2000)), s.write(b"late"))
        s.close()
    """
    server = Server()
    assert device(port, code, server.port, connect_ms=200) == ["None", "0", "1", "4"]
    assert server.end() == b"late"


@both
def test_a_refused_connection_shows_at_the_first_write(device, port):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    code = """
        print(p.poll(0)[0][1])
        for _ in range(2):
            try: print(s.write(b"x"))
            except OSError as e: print(e.errno)
    """
    flags, first, _ = device(port, CONNECTED + textwrap.dedent(code), free, 0)
    expected = {"SIM_RP2": 4 | 8 | 16, "SIM_ESP32": 4}[port]
    assert (int(flags), first) == (expected, "104")


@both
def test_new_closed_and_reset_sockets_poll_as_the_port(device, port):
    code = "p = select.poll()\np.register(socket.socket(), 5)\nprint(p.poll(0)[0][1])\n"
    assert device(port, code) == ["20"]
    # the flags at the end of the stream, seen once the data is read
    ended = """
        p.register(s, select.POLLIN | select.POLLOUT)
        while True:
            flags = p.poll(0)[0][1]
            if flags & 1:
                n = s.read(1)
                if not n: break
        print(p.poll(0)[0][1], s.read(1))
    """
    closing = Server(lambda peer: (peer.sendall(b"x"), peer.shutdown(socket.SHUT_RDWR)))
    assert on(device, port, closing, ended) == [{"SIM_RP2": "5", "SIM_ESP32": "1"}[port], "b''"]
    reset = """
        s.write(b"x")
        p.register(s, select.POLLIN | select.POLLOUT)
        while not (flags := p.poll(0)[0][1]) & 1: pass
        print(p.poll(0)[0][1])
        for _ in range(2):
            try: print(s.read(1))
            except OSError as e: print(e.errno)
    """

    def abort(peer):
        peer.recv(1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    flags, first, second = on(device, port, Server(abort), reset)
    assert int(flags) & 1 and (first, second) == ("104", "b''")
    assert port != "SIM_RP2" or int(flags) == 1 | 4 | 8 | 16


# -- room


@both
def test_writes_are_cut_short_and_then_refused(device, port):
    """Breaks the rule: takes write() for done. Keeps it: goes on with the rest."""
    room = {"SIM_RP2": 6400, "SIM_ESP32": 5760}[port]
    code = """
        data = bytes(range(256)) * 40
        n = s.write(data)
        print(n, s.write(b"x"))
        if len(sys.argv) > 3:
            while n < len(data):
                if p.poll(1000): n += s.write(data[n:]) or 0
        time.sleep_ms(150)
        s.close()
    """
    server = Server()
    script = CONNECTED + textwrap.dedent(code)
    assert device(port, script, server.port, 0, ack_ms=100) == [str(room), "None"]
    assert len(server.end()) == room
    server = Server()
    device(port, script, server.port, 0, "on", ack_ms=100)
    assert server.end() == bytes(range(256)) * 40


TLS = """
import tls
c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
c.verify_mode = tls.CERT_NONE
t = c.wrap_socket(s, do_handshake_on_connect=False)
def put(data):
    n = None
    while n is None:
        n = t.write(data)
        if n is None: time.sleep_ms(1)
    return n
put(b"hello")
time.sleep_ms(700)
first = b"A" * 4000
while t.write(first) is not None: first = b"B" * 4000
print("None")
if len(sys.argv) > 3:
    put(first)
print(put(b"PP"))
time.sleep_ms(700)
t.write(b"end")
time.sleep_ms(100)
s.close()
"""


@both
def test_a_tls_write_that_returned_none_owns_its_bytes(device, port, broker_factory):
    folder = broker_factory("embedded", start=False).settings.folder
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    for keeps, arguments in ((False, ()), (True, ("keep",))):
        server = Server(context=context)
        said = device(port, CONNECTED + TLS, server.port, 0, *arguments, ack_ms=500)
        assert said == ["None", "2"]  # "2" is a lie when the rule is broken
        got = server.end()
        assert (b"PP" in got) == keeps and b"B" * 4000 in got


def test_rp2_blocks_at_the_33rd_small_segment_and_lies(device):
    code = """
        t = time.ticks_ms()
        taken = [s.write(b"%02d " % i) for i in range(40)]
        print(sum(taken), time.ticks_diff(time.ticks_ms(), t))
        time.sleep_ms(50)
        s.close()
    """
    slow = {"ack_ms": 60_000, "segment_wait_ms": 100}
    server = Server()
    total, passed = on(device, "SIM_RP2", server, code, no_delay=1, **slow)
    assert (int(total), len(server.end())) == (120, 32 * 3)  # 8 writes were never sent
    assert int(passed) >= 8 * 100
    for port, no_delay in (("SIM_RP2", 0), ("SIM_ESP32", 1)):
        server = Server()
        total, passed = on(device, port, server, code, no_delay=no_delay, **slow)
        assert int(total) == len(server.end()) == 120 and int(passed) < 500


@both
def test_a_black_hole_swallows_both_ways_and_gives_back_what_it_held(device, port):
    code = """
        import json
        def black_hole(on):
            with open(SETTINGS, "w") as f: json.dump({"black_hole": on}, f)
            time.sleep_ms(150)
        black_hole(True)
        n, data = 0, bytes(1000)
        for _ in range(20): n += s.write(data) or 0
        print(n, len(p.poll(100)), s.read(1))
        black_hole(False)
        p.poll(1000)
        time.sleep_ms(50)
        print(s.read(1))
        s.close()
    """
    server = Server(lambda peer: peer.sendall(b"!"))
    room = {"SIM_RP2": 6400, "SIM_ESP32": 5760}[port]
    said = device(port, CONNECTED + textwrap.dedent(code), server.port, 0)
    assert said == [str(room), "0", "None", "b'!'"] and len(server.end()) == room


# -- time


@both
def test_ticks_wrap_soon_after_a_reset(device, port):
    """Breaks the rule: compares ticks. Keeps it: ticks_diff."""
    code = """
        begin = time.ticks_ms()
        end = begin + 200
        right = wrong = False
        while time.ticks_diff(time.ticks_ms(), begin) < 300:
            right = time.ticks_diff(time.ticks_ms(), time.ticks_add(begin, 200)) >= 0
            wrong = time.ticks_ms() >= end
        print(right, wrong, time.ticks_ms() < 1 << 30)
    """
    assert device(port, code, ticks_before_wrap=100) == ["True", "False", "True"]


@both
def test_asyncio_works_across_the_wrap_and_on_the_ports_sockets(device, port):
    code = """
        import asyncio, sys
        order = []
        async def note(ms):
            await asyncio.sleep_ms(ms)
            order.append(ms)
        async def main():
            await asyncio.gather(*[note(ms) for ms in (160, 20, 120, 60)])
            print(*order)
            r, w = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
            w.write(b"ping")
            await w.drain()
            print(await asyncio.wait_for(r.read(4), 2))
            try: await asyncio.wait_for_ms(r.read(1), 50)
            except asyncio.TimeoutError: print("late")
            w.close()
            await w.wait_closed()
        asyncio.run(main())
    """
    server = Server(lambda peer: peer.sendall(peer.recv(4)))
    said = device(port, code, server.port, ticks_before_wrap=80)
    assert said == ["20", "60", "120", "160", "b'ping'", "late"]
