"""A production line: several boards at once, some of which fail."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from limpet_kit import kitkey, line, linereport
from limpet_kit.board import Board
from limpet_kit.ledger import ACTIVE, Ledger
from limpet_kit.line import Record, Run


@pytest.fixture
def station(home, broker_factory, sim_factory, tmp_path):
    """`station(count)`: a broker, and the ports of new simulated boards."""

    def make(count, **around):
        broker = broker_factory("embedded")
        boards = [sim_factory() for _ in range(count)]
        return broker, boards

    return make


def up(broker, ports, folder, *more, wait=8):
    return [
        *(sys.executable, "-m", "limpet_kit", "up", "--watch", "--json"),
        *("--broker", str(broker.settings.folder), "--run", str(folder), "--prefix", "lamp"),
        *("--ports", ",".join(ports), "--wait", str(wait), *more),
    ]


def test_eight_boards_two_of_which_fail_in_different_ways(station, tmp_path, record_property):
    broker, boards = station(8)
    ports = [f"sim:{board.name}" for board in boards]
    boards[2].configure(networks={"another": "a key of another"})  # never reaches the broker
    with Board(ports[5]) as full:
        full.exec(
            "for n in range(1000):\n"
            "  try:\n"
            "    with open('fill%d' % n, 'wb') as f: f.write(bytes(16384))\n"
            "  except OSError: break\n",
            timeout_s=60,
        )
    began = time.monotonic()
    done = subprocess.run(up(broker, ports, tmp_path / "run"), capture_output=True, text=True)
    seconds = time.monotonic() - began
    result = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1, done.stderr
    assert result["online"] == [f"lamp-{n}" for n in sorted(_numbers(result["online"]))]
    assert len(result["online"]) == 6, done.stderr
    apart = {one["port"]: one for one in result["apart"]}
    assert set(apart) == {ports[2], ports[5]}
    assert apart[ports[2]]["code"] == 9 and "not log in" in apart[ports[2]]["words"]
    assert apart[ports[5]]["code"] == 4, apart[ports[5]]

    with (tmp_path / "run" / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["port"] for row in rows) == sorted(ports)
    assert sum(row["result"] == "online" for row in rows) == 6
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<b>6</b> online" in page and "<b>2</b> set apart" in page
    with Ledger() as ledger:
        active = {unit.name for unit in ledger.units() if unit.state == ACTIVE}
        assert active == set(result["online"])
        keys = {unit.kit_key for unit in ledger.units()}
    assert keys == {kitkey.load(file=kitkey.paths.home() / "line.key").id}
    assert not (kitkey.paths.home() / "kit.key").exists()
    record_property(
        "measured",
        f"line of 8 boards, 2 of them bad: {seconds:.1f} s, "
        f"{result['boards_an_hour']:.0f} good boards an hour on this machine",
    )

    # mended, the same run goes on: what was online is counted once
    boards[2].configure(networks={"simulated": ""})
    more = [ports[0], ports[2]]
    done = subprocess.run(
        up(broker, more, tmp_path / "run", wait=30), capture_output=True, text=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["online"]) == 7, done.stderr
    assert [one["port"] for one in result["apart"]] == [ports[5]]


def _numbers(names):
    return [int(name.rpartition("-")[2]) for name in names]


def test_ctrl_c_leaves_nothing_half_counted(station, tmp_path):
    broker, boards = station(2)
    ports = [f"sim:{board.name}" for board in boards]
    process = subprocess.Popen(
        up(broker, ports, tmp_path / "run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "begins" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["online"] == []
    done = subprocess.run(up(broker, ports, tmp_path / "run"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["online"]) == 2


def test_the_report_runs_nothing(tmp_path):
    run = Run(tmp_path)
    run.add(Record("=cmd|'/c calc'!A1", 3, "<script>alert(1)</script>", "@x", 0, 1.0))
    linereport.write(run)
    text = (tmp_path / "report.csv").read_text()
    assert "'=cmd" in text and ",'@x" in text
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert Run(tmp_path).records == run.records


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "units.jsonl").write_text("{}\n")
    with pytest.raises(line.KitError, match=r"Line 1 of .*units.jsonl cannot be read"):
        Run(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "x"], "--watch goes without"),
        (["--at-once", "0"], "are 1 or more"),
    ],
)
def test_bad_options(options, words, home, broker_factory):
    broker = broker_factory("embedded")
    command = [sys.executable, "-m", "limpet_kit", "up", "--watch", *options]
    command += ["--broker", str(broker.settings.folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and words in done.stderr
