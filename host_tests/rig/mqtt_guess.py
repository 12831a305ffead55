"""A stranger at the broker's door, as a program of its own: it runs in another namespace."""

# Reads one JSON object: server, sources (in turn), user, password, id, level (3, 4, 5: MQTT 3.1,
# 3.1.1, 5), topic (to publish on once logged in, or null), say ("login", "hold": and stay,
# "hello": no more than a connection, "garbage": no TLS), times, watch_s. Writes {"codes":
# [CONNACK's code, None without an answer], "shut_s": seconds from the last of them until no
# connection came about any more, None within watch_s}.
PROGRAM = r"""
import itertools, json, socket, ssl, struct, sys, time

order = json.load(sys.stdin)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
WAIT_S = 1.0


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def connect():
    name = "MQIsdp" if order["level"] == 3 else "MQTT"
    body = text(name) + bytes([order["level"], 0xC2]) + b"\0\x1e"
    body += b"\0" if order["level"] == 5 else b""
    body += text(order["id"]) + text(order["user"]) + text(order["password"])
    assert len(body) < 16384
    if len(body) < 128:
        return bytes([0x10, len(body)]) + body
    return bytes([0x10, len(body) % 128 | 128, len(body) // 128]) + body


sources, held = itertools.cycle(order["sources"]), []


def link():
    return socket.create_connection(tuple(order["server"]), WAIT_S, (next(sources), 0))


def login():
    try:
        if order["say"] in ("hello", "garbage"):
            with link() as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n" * (order["say"] == "garbage"))
            return None
        if order["say"] == "hold":
            held.append(context.wrap_socket(link()))
            held[-1].sendall(connect())
            return held[-1].recv(4)[3]
        with link() as plain, context.wrap_socket(plain) as s:
            s.sendall(connect())
            answer = s.recv(4)
            if len(answer) == 4 and answer[3] == 0 and order["topic"]:
                body = text(order["topic"]) + (b"\0" if order["level"] == 5 else b"") + b"x"
                s.sendall(b"\x30" + bytes([len(body)]) + body)
                s.settimeout(0.1)
                s.recv(1)
            return answer[3] if len(answer) == 4 else None
    except OSError:
        return None


codes = [login() for _ in range(order["times"])]
began, shut = time.monotonic(), None
while shut is None and time.monotonic() - began < order["watch_s"]:
    tried = time.monotonic()
    try:
        link().close()
        time.sleep(0.05)
    except OSError:
        shut = tried - began
json.dump({"codes": codes, "shut_s": shut}, sys.stdout)
"""
