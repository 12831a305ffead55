"""The web page in Chromium, with a simulated device at a real broker."""

import math
import os
import statistics
import subprocess
import sys
import time

import pytest
from limpet_kit import bringup, wifi
from limpet_kit.broker import accounts, export
from limpet_kit.broker.client import KitClient
from limpet_kit.console import Console
from limpet_kit.enrolment import Plan
from limpet_kit.guard import alerts
from rig.broker import KINDS
from rig.micropython import ROOT

PASSWORD = "correct horse battery"
NAME = "lamp-1"


def limpet(*arguments, typed=None):
    command = [sys.executable, "-m", "limpet_kit", *arguments]
    done = subprocess.run(command, input=typed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def unit(sim_factory, broker_factory):
    """`unit(kind)`: a broker of that kind, and a simulated board that is online there."""

    def make(kind="mosquitto"):
        broker = broker_factory(kind)
        board = sim_factory()
        plan = Plan(networks=wifi.simulated, name=NAME)
        bringup.bring_up(
            f"sim:{board.name}",
            broker.settings,
            plan,
            Console(),
            lambda name, words: None,
            reading_s=0,
        )
        return broker, board

    return make


def picture(page, name):
    """Make the picture of the README anew, when asked to."""
    if os.environ.get("LIMPET_WRITE") == "1":
        page.screenshot(path=ROOT / "tools" / "limpet_kit" / "web" / name)


def log_in(browser, url, name="anna", **options):
    context = browser.new_context(ignore_https_errors=True, **options)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("dialog", lambda dialog: page.errors.append("dialog " + dialog.message))
    page.goto(url)
    page.get_by_label("Name").first.fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_text(f"{name}, connected").wait_for()
    return page


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_sees_and_commands_a_device(kind, unit, web_server, browser, record_property):
    broker, _ = unit(kind)
    limpet("web", "user", "add", "anna", "--devices", NAME, typed=PASSWORD + "\n")
    url = web_server(broker)
    page = log_in(browser, url)
    device = page.locator(".device")
    device.get_by_text("online", exact=True).wait_for()

    device.get_by_role("button", name="LED on").click()
    device.locator('[data-value="led"] .now', has_text="on").wait_for()
    device.get_by_role("button", name="LED off").press("Enter")
    device.locator('[data-value="led"] .now', has_text="off").wait_for()

    with KitClient(broker.settings) as kit:
        for k in range(24):
            kit.publish(f"limpet/{NAME}/up/temperature", b"%.1f" % (21 + 3 * math.sin(k / 3)))
        device.locator(
            "[data-value=temperature] .now", has_text=f"{21 + 3 * math.sin(23 / 3):.1f}"
        ).wait_for()
    assert (
        device.locator("[data-value=temperature] polyline").get_attribute("points").count(",")
        == 24
    )
    page.set_viewport_size({"width": 760, "height": 400})
    picture(page, "desktop.png")
    times = []
    for _ in range(15):
        page.evaluate("delete document.querySelector('.device').dataset.latency")
        device.get_by_role("button", name="Ping").click()
        page.wait_for_selector(".device[data-latency]")
        times.append(float(device.get_attribute("data-latency")))
    record_property(
        "measured", f"page, device and back over {kind}: {statistics.median(times):.1f} ms"
    )

    begun = time.monotonic()
    limpet("web", "user", "remove", "anna")
    gone = time.monotonic()
    page.get_by_text("You were logged out.").wait_for(timeout=5000)
    seconds = time.monotonic() - gone
    words = f"removed to page without control: {seconds:.2f} s after the command"
    record_property("measured", f"{words} ({gone - begun:.2f} s)")
    assert seconds < 5  # the figure is what is printed
    assert not page.errors


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[2J\u202e\x00"


@pytest.mark.mosquitto
def test_what_a_device_says_stays_text(unit, web_server, browser):
    broker, _ = unit()
    limpet("web", "user", "add", "anna", "--every-device", typed=PASSWORD + "\n")
    page = log_in(browser, web_server(broker))
    with KitClient(broker.settings) as kit:
        kit.publish(f"limpet/{NAME}/up/<b>bold", HOSTILE.encode())
        kit.publish(f"limpet/{NAME}/up/long", b"x" * 20_000)
        kit.publish(f"limpet/{NAME}/up/bytes", bytes(range(256)))
        kit.publish(f"limpet/{NAME}/up/number", b"1e999")
        kit.publish(f"limpet/anna/from/{NAME}/<i>x", HOSTILE.encode())
        kit.publish(f"limpet/{NAME}/state", b'{"state":"offline","cause":"<u>why</u>"}')
        page.get_by_text("offline: <u>why</u>").wait_for()
        page.get_by_text("<img src=x onerror=alert(1)><script>").first.wait_for()
        kit.publish(f"limpet/{NAME}/state", b'{"state":"offline","cause":{"a":[1]}}')
        kit.publish(f"limpet/{NAME}/state", b"null")
        kit.publish(f"limpet/{NAME}/state", b"\xff{")
        page.get_by_text("offline").first.wait_for()
    assert page.locator(".device script, .device img, .device u, .device i").count() == 0
    assert page.locator("[data-value=long] .now").text_content().endswith("\u2026")
    assert "\x1b" not in page.locator(".device").text_content()
    assert not page.errors


@pytest.mark.mosquitto
def test_one_to_one_two_windows_and_a_phone(unit, web_server, browser):
    broker, _ = unit()
    limpet("web", "user", "add", "anna", "--devices", NAME, typed=PASSWORD + "\n")
    url = web_server(broker)
    page = log_in(browser, url, viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    other = page.context.new_page()
    other.goto(url)
    other.get_by_text("anna, connected").wait_for()  # the same log-in
    with KitClient(broker.settings) as kit:
        kit.subscribe(f"limpet/{NAME}/from/#")
        page.get_by_text("Send something else").click()
        page.get_by_label("How").select_option("from")
        page.get_by_label("Name").last.fill("hello")
        page.get_by_label("Content").fill("you")
        page.get_by_role("button", name="Send").click()
        found = kit.wait(lambda t, p: t == f"limpet/{NAME}/from/anna/hello", 5)
        assert found and found[1] == b"you"
        kit.publish(f"limpet/anna/from/{NAME}/hello", b"me")
        page.get_by_text("hello: me").wait_for()
    picture(page, "phone.png")
    page.get_by_role("button", name="Log out").click()
    page.get_by_text("You are logged out.").wait_for()
    other.get_by_text("You were logged out.").wait_for()


@pytest.mark.mosquitto
def test_what_the_guard_tells_stands_on_the_page(unit, web_server, browser):
    """Of addresses to who sees every device, of a cloned device to who sees that one."""
    broker, _ = unit()
    for name, which in (("anna", ["--every-device"]), ("bert", ["--devices", NAME])):
        limpet("web", "user", "add", name, *which, typed=PASSWORD + "\n")
    folder = broker.settings.folder
    account = next(n for n in export.read(folder) if accounts.is_devices(n))
    alerts.alert(broker.settings, "banned", 10, 600, address="2001:db8::7")
    url = web_server(broker)
    anna, bert = log_in(browser, url), log_in(browser, url, "bert")
    anna.get_by_text("banned: 2001:db8::/64 was refused 10 times in 600 s").wait_for()
    picture(anna, "guard.png")
    alerts.alert(broker.settings, "cloned", 20, 600, account=account)
    for page in (anna, bert):  # while it is open
        page.get_by_text(f"cloned: {NAME} was taken over 20 times in 600 s").wait_for()
    assert bert.locator("#guard li").count() == 1
    assert account not in bert.content() + anna.content()
    anna.get_by_role("button", name="Log out").click()
    anna.get_by_text("You are logged out.").wait_for()
    assert not anna.locator("#guard").is_visible()
    assert not anna.errors and not bert.errors


def test_the_library_in_the_page_is_the_one_that_was_pinned():
    import hashlib

    page = ROOT / "tools" / "limpet_kit" / "web"
    digest = hashlib.sha256((page / "page" / "mqtt.esm.js").read_bytes()).hexdigest()
    assert digest in (page / "README.md").read_text()
