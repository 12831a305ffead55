"""What every test may use, and what a run says about itself at its end."""

import os

import pytest
from rig.blank import *  # noqa: F403
from rig.broker import *  # noqa: F403
from rig.clocks import *  # noqa: F403
from rig.cluster import *  # noqa: F403
from rig.device import *  # noqa: F403
from rig.fleet import *  # noqa: F403
from rig.micropython import *  # noqa: F403
from rig.peers import *  # noqa: F403
from rig.shims import install
from rig.sim import *  # noqa: F403
from rig.smq_broker import *  # noqa: F403
from rig.web import *  # noqa: F403

install()
pytest_plugins = ["limpet_kit.pytest"]

COUNTED = {
    "ran on MicroPython": "device tests also ran on MicroPython",
    "fuzz inputs": "damaged inputs went through the parser",
}
FAULTS = [["case", "noticed s", "limit", "tries", "back s", "limit", "the device's words"]]
CLOCKS = [["the board's clock", "NTP", "certificate", "what happened"]]
HOSTILE = [["server", "socket", "password bytes", "left after s", "the device's words"]]
MEASURED = "measured"  # a property whose value is a line for the end of the run


def pytest_generate_tests(metafunc):
    """What is marked `on_ports` runs on the desktop's sockets and on each port's."""
    mark = metafunc.definition.get_closest_marker("on_ports")
    if mark:
        marks = () if mark.kwargs.get("always") else pytest.mark.slow
        ports = [pytest.param(port, id=port, marks=marks) for port in PORTS]  # noqa: F405
        runs = [pytest.param(None, id="desktop"), *ports]
        if only := mark.kwargs.get("only"):
            runs = [pytest.param(only, id=only)]
        metafunc.parametrize("device_port", runs, indirect=True)


def pytest_collection_finish(session):
    """Tests that share a broker of seconds and 400 MB must not start one in each worker."""
    if getattr(session.config.option, "loadgroup", False):
        grouped = (one for one in session.items if one.get_closest_marker("xdist_group"))
        apart = [one.nodeid for one in grouped if "@" not in one.nodeid]
        assert not apart, f"this xdist does not group tests with this pytest: {apart[0]}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With LIMPET_REQUIRE_ALL=1 a skip is a failure: CI must not pass by leaving things out."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("LIMPET_REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped although LIMPET_REQUIRE_ALL=1: {report.longrepr}"


def pytest_terminal_summary(terminalreporter):
    """What was counted (`record_property`), and a loud word for what was skipped."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    for counted, words in COUNTED.items():
        count = sum(n for r in reports for name, n in r.user_properties if name == counted)
        if count:
            terminalreporter.write_line(f"{count:,} {words}")
    for report in reports:
        for name, value in report.user_properties:
            if name == MEASURED:
                terminalreporter.write_line(value)
    for table, head in (("clock", CLOCKS), ("faults", FAULTS), ("hostile", HOSTILE)):
        found = [row for r in reports for name, row in r.user_properties if name == table]
        if found:
            _write_table(terminalreporter, table, head + sorted(found))
    skipped = terminalreporter.getreports("skipped")
    if skipped:
        terminalreporter.write_line(f"NOT TESTED: {len(skipped)} tests were skipped, see above")


def _write_table(terminalreporter, table, rows):
    """The table of a suite, here and in build/."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| --- " * len(rows[0]) + "|")
    file = ROOT / "build" / f"{table}.md"  # noqa: F405
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    terminalreporter.write_line(f"\n{len(rows) - 1} {table}; the table is also in {file}")
    for line in lines:
        terminalreporter.write_line(line)
