"""The web page's server, asked as a browser would, and as an attacker would."""

import asyncio
import re
import sqlite3
import ssl
import subprocess
import sys

import httpx
import pytest
from limpet_kit.broker.connect import ACCEPTED, Connect, connack, encode
from limpet_kit.web import bridge, sessions
from limpet_kit.web.people import People
from test_web import PASSWORD, limpet
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

HEADER = "X-Limpet-Token"


@pytest.fixture
def page(home, broker_factory, web_server):
    """A client of the page's server that trusts the broker's CA, with a person to log in as."""
    broker = broker_factory("embedded")
    limpet("web", "user", "add", "anna", "--every-device", typed=PASSWORD + "\n")
    url = web_server(broker)
    context = ssl.create_default_context(cafile=broker.settings.folder / "ca.crt")
    with httpx.Client(base_url=url, verify=context) as client:
        client.headers["Origin"] = url
        client.tls = context
        yield client


def token(page):
    return page.get("/session").json()["token"]


def log_in(page, password=PASSWORD, name="anna", **headers):
    body = {"name": name, "password": password}
    return page.post("/login", json=body, headers={HEADER: token(page), **headers})


def test_every_answer_carries_the_policy_and_the_cookie_is_hard(page):
    answer = page.get("/session")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy and "require-trusted-types-for 'script'" in policy
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-limpet=")
    for flag in ("Secure", "HttpOnly", "SameSite=strict", "Path=/"):
        assert flag.lower() in cookie.lower()
    for path in ("/", "/page/main.js", "/nothing"):
        headers = page.get(path).headers
        assert headers["content-security-policy"] and headers["x-content-type-options"]
    assert not re.search(r"<script(?! type=\"module\" src=)|style=|\bon\w+=", page.get("/").text)


def test_a_log_in_changes_the_cookie_and_shows_no_secret(page):
    page.get("/session")
    before = page.cookies["__Host-limpet"]
    answer = log_in(page)
    assert answer.status_code == 200 and answer.json()["person"] == "anna"
    assert page.cookies["__Host-limpet"] != before
    assert "argon2" not in answer.text and PASSWORD not in answer.text
    page.post("/logout", json={}, headers={HEADER: answer.json()["token"]})
    assert "person" not in page.get("/session").json()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({HEADER: "x"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_what_our_own_page_did_not_ask_for_is_refused(page, headers, code):
    assert log_in(page, **headers).status_code == code
    assert "person" not in page.get("/session").json()


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b"x" * 5000, b'{"name":1,"password":"x"}', b"[" * 4000]
)
def test_bad_bodies(page, body):
    answer = page.post("/login", content=body, headers={HEADER: token(page)})
    assert answer.status_code == 400


def test_half_a_pair_is_a_wrong_password(page):
    body = b'{"name":"anna","password":"abcdefghijk\\ud800"}'
    answer = page.post("/login", content=body, headers={HEADER: token(page)})
    assert answer.status_code == 401


@pytest.mark.mosquitto
@pytest.mark.parametrize("profile", ["psk", "x509"])
def test_the_link_goes_where_passwords_are_taken(profile, broker_factory):
    settings = broker_factory("mosquitto", profile=profile).settings
    account = settings.kit_accounts[-1]

    async def login():
        reader, writer = await bridge._reach(settings)
        writer.write(encode(Connect(account, settings.kit_password(), account)))
        answer = await reader.readexactly(4)
        writer.close()
        return answer

    assert asyncio.run(login()) == connack(ACCEPTED)


def test_a_ledger_that_is_busy_does_not_keep_sessions_from_ending(home, broker_factory):
    broker = broker_factory("embedded")
    limpet("web", "user", "add", "anna", "--every-device", typed=PASSWORD + "\n")
    time_now = [0.0]

    async def main():
        found = sessions.Sessions(broker.settings, 10, clock=lambda: time_now[0])
        with People() as ledger:
            at = broker.settings
            ledger.know_broker(at.kit, at.folder, at.server)
            cookie = await found.open(ledger.person("anna"))
        session = found.of(cookie)
        look, leave, failures = found._look, found._leave, [2, 2]

        def busy(number, real):
            def run(*arguments):
                failures[number] -= 1
                if failures[number] >= 0:
                    raise sqlite3.OperationalError("database is locked")
                return real(*arguments)

            return run

        found._look, found._leave = busy(0, look), busy(1, leave)
        watch = asyncio.create_task(found.watch())
        time_now[0] = 11.0
        await asyncio.wait_for(session.over.wait(), 10)
        while True:
            with People() as ledger:
                if not ledger.seats():
                    break
            await asyncio.sleep(0.05)
        watch.cancel()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_guessing_is_slowed_down_and_strangers_are_not_told_apart(page):
    answers = [log_in(page, "wrong password", name) for name in ("anna", "nobody") * 5]
    assert {(a.status_code, a.text) for a in answers} == {(401, answers[0].text)}
    late = log_in(page)
    assert late.status_code == 429 and int(late.headers["retry-after"]) > 500
    assert "min" in late.json()["error"]


@pytest.mark.parametrize("origin", [None, "https://evil.example"])
def test_a_websocket_of_another_page_is_refused(page, origin):
    log_in(page)
    cookie = f"__Host-limpet={page.cookies['__Host-limpet']}"
    url = str(page.base_url).replace("https", "wss").rstrip("/") + "/link"
    with pytest.raises(InvalidStatus, match="403"):
        connect(
            url,
            ssl=page.tls,
            subprotocols=["mqtt"],
            origin=origin,
            additional_headers={"Cookie": cookie},
        )


def test_a_websocket_without_a_session_is_told_that_it_is_over(page):
    url = str(page.base_url).replace("https", "wss").rstrip("/") + "/link"
    origin = str(page.base_url).rstrip("/")
    with (
        connect(url, ssl=page.tls, subprotocols=["mqtt"], origin=origin) as link,
        pytest.raises(ConnectionClosed, match="4001"),
    ):
        link.recv(timeout=5)


def test_without_a_broker_it_says_what_to_do(home, broker_factory):
    broker = broker_factory("embedded", start=False)
    command = [sys.executable, "-m", "limpet_kit", "web", "--broker"]
    done = subprocess.run(
        [*command, str(broker.settings.folder)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 6 and "limpet broker run" in done.stderr
