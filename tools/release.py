"""Packages of the device library for mip, and what has to be right before a release.

    python tools/release.py package      # write the package.json files anew
    python tools/release.py check        # is everything as it must be?
    python tools/release.py build DIR    # wheel, and the library compiled for mip

`package.json` at the root is the core; optional modules have one of their own in
`packages/NAME/`. `build` makes the same packages with `.mpy` files, under `mpy6/` (the
number of the file format). Uploading is left to a person: build/README.txt says how.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lib" / "limpet"
# What few sketches need: its modules, and what they need besides the core.
OPTIONAL: dict[str, tuple[list[str], list[list[str]]]] = {
    "outbox": (["outbox.py"], []),
    "smq": (["smq.py", "smqwire.py"], []),
    "umqtt": (["umqtt.py"], [["umqtt.simple", "latest"], ["umqtt.robust", "latest"]]),
}
UPLOAD = """\
1. git tag vVERSION && git push --tags      (mip installs from the tag: github:ORG/limpet@vVERSION)
2. put the folder mpy6/ on the branch `mpy`   (mip: github:ORG/limpet/mpy6@mpy)
3. upload the wheel with twine
"""


def version() -> str:
    """The version; `lib/limpet/__init__.py` is the one place that says it."""
    found = re.search(r'^__version__ = "(.+)"$', (LIBRARY / "__init__.py").read_text(), re.M)
    if not found:
        raise SystemExit("lib/limpet/__init__.py does not say its version")
    return found[1]


def packages() -> dict[str, str]:
    """Path of each package.json, from the root, to its content."""
    optional = {module for modules, _ in OPTIONAL.values() for module in modules}
    core = sorted({file.name for file in LIBRARY.glob("*.py")} - optional)
    found = {"package.json": _package(core, "lib/limpet/", [])}
    for name, (modules, deps) in OPTIONAL.items():
        path = f"packages/{name}/package.json"
        found[path] = _package(modules, "../../lib/limpet/", deps)
    return found


def _package(modules: list[str], at: str, deps: list[list[str]]) -> str:
    urls = [[f"limpet/{name}", at + name] for name in modules]
    lines = ",\n".join(f"    {json.dumps(url)}" for url in urls)
    return (
        f'{{\n  "version": "{version()}",\n  "urls": [\n{lines}\n  ],\n'
        f'  "deps": {json.dumps(deps)}\n}}\n'
    )


def write() -> None:
    """Write the package.json files of the checkout."""
    for path, content in packages().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content)


def check() -> list[str]:
    """What is not ready, in sentences."""
    wrong = []
    for path, content in packages().items():
        if not (ROOT / path).exists() or (ROOT / path).read_text() != content:
            wrong.append(f"{path} is not up to date: python tools/release.py package")
    if f'version="{version()}"' not in (ROOT / "firmware" / "frozen" / "limpet.py").read_text():
        wrong.append(f"firmware/frozen/limpet.py does not say version {version()}")
    if f"## {version()}" not in (ROOT / "CHANGELOG.md").read_text():
        wrong.append(f"CHANGELOG.md has no section {version()}: rename Unreleased")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True)
    if status.stdout:
        wrong.append("the work tree has changes that are not committed")
    return wrong


def build(folder: Path) -> None:
    """The wheel and the compiled packages into `folder`, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    compile_into(folder / "mpy6")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(wheel, check=True)
    (folder / "README.txt").write_text(UPLOAD.replace("VERSION", version()))


def compile_into(compiled: Path) -> None:
    """The packages with `.mpy` files, as mip takes them."""
    sys.path.insert(0, str(ROOT / "tools"))
    from limpet_kit import install

    (compiled / "limpet").mkdir(parents=True)
    for name, content in install.compiled().items():
        (compiled / "limpet" / name).write_bytes(content)
    for path, content in packages().items():
        package = json.loads(content)
        depth = "../" * path.count("/")
        package["urls"] = [
            [target.replace(".py", ".mpy"), f"{depth}{target.replace('.py', '.mpy')}"]
            for target, _ in package["urls"]
        ]
        (compiled / path).parent.mkdir(parents=True, exist_ok=True)
        (compiled / path).write_text(json.dumps(package, indent=1))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("package", help="write the package.json files anew")
    actions.add_parser("check", help="say what is not ready for a release")
    actions.add_parser("build", help="wheel and compiled library").add_argument("dir", type=Path)
    args = parser.parse_args()
    if args.action == "package":
        write()
        return 0
    if args.action == "build":
        build(args.dir)
        return 0
    wrong = check()
    print("\n".join(wrong) if wrong else f"ready for {version()}")
    return 1 if wrong else 0


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    raise SystemExit(main())
