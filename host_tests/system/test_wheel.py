"""The kit as it is installed: from a wheel, outside a checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv

import pytest
from limpet_kit.broker.server import free_port
from rig.micropython import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `limpet` program of an environment that holds the wheel; its dependencies are ours."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("limpet_kit-*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    libraries = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    into = [sys.executable, "-m", "pip", "--quiet", "--python", environment / "bin" / "python"]
    subprocess.run([*into, "install", "--no-deps", wheel], check=True, capture_output=True)
    # Behind its own, so that what was installed wins over the checkout's editable install.
    (libraries / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for program in ("micropython", "mpremote"):
        (environment / "bin" / program).symlink_to(os.path.join(sys.prefix, "bin", program))
    return environment / "bin" / "limpet"


def test_up_outside_a_checkout(installed, tmp_path):
    variables = {
        **os.environ,
        "LIMPET_HOME": str(tmp_path / "home"),
        "LIMPET_MOSQUITTO": "none",
    }

    def limpet(*arguments):
        done = subprocess.run(
            [installed, *arguments], cwd=tmp_path, env=variables, capture_output=True, timeout=90
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    where = subprocess.run(
        [installed.with_name("python"), "-c", "import limpet_kit; print(limpet_kit.__file__)"],
        capture_output=True,
    )
    assert str(installed.parents[1]) in where.stdout.decode()
    limpet("broker", "init", "--loopback", "--port", str(free_port()))
    try:
        result = json.loads(limpet("up", "sim", "--json").splitlines()[-1])
        assert result["ok"] and result["name"] == "unit-1"
        assert "unit-1" in limpet()
    finally:
        limpet("broker", "stop")
        limpet("sim", "stop")


def test_a_checker_finds_the_types_that_came_with_it(installed, tmp_path):
    sketch = tmp_path / "sketch.py"
    sketch.write_text("import limpet\n\nlimpet.Client().publish(1, b'')\n")
    python = installed.with_name("python")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, sketch],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and '"publish" of "Client"' in done.stdout, done.stdout
