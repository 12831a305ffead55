"""The web page's server as a process of its own, and Debian's Chromium to look at it."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time

import pytest
from limpet_kit.broker.server import free_port

__all__ = ["browser", "web_server"]


@pytest.fixture
def web_server(home):
    """`web_server(broker, *options)` -> the page's URL; it ends with the test."""
    running = []

    def start(broker, *options):
        port = free_port()
        folder = broker.settings.folder
        command = [sys.executable, "-m", "limpet_kit", "web", "--broker", str(folder)]
        process = subprocess.Popen(
            [*command, "--port", str(port), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        for _ in range(200):
            if process.poll() is not None:
                pytest.fail(process.stderr.read())
            try:
                with (
                    socket.create_connection(("127.0.0.1", port), 1) as raw,
                    context.wrap_socket(raw, server_hostname="localhost"),
                ):
                    return f"https://localhost:{port}"
            except ConnectionRefusedError:
                time.sleep(0.05)
        pytest.fail("the page's server did not come up")

    yield start
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture
def browser():
    """Chromium, without a window. Skips loudly without it, fails where all must be there."""
    program = shutil.which("chromium")
    if program is None:
        words = "chromium is NOT INSTALLED, so the web page was not tried (apt install chromium)"
        if os.environ.get("LIMPET_REQUIRE_ALL") == "1":
            pytest.fail(words)
        pytest.skip(words)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()
