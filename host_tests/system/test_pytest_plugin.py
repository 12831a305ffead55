"""The pytest plug-in as its users have it: testing.md's examples, in a folder of their own."""

import re
import subprocess
import sys

import pytest
from rig.micropython import ROOT

DOCUMENT = ROOT / "tools" / "limpet_kit" / "testing.md"
LINES = 20  # the test of a sketch is shorter than that


def examples():
    found = re.findall(r"\*\*`(\S+)`\*\*\n```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    return dict(found)


@pytest.fixture
def project(tmp_path):
    """A user's folder with the examples, and pytest there as a child."""
    for name, text in examples().items():
        (tmp_path / name).write_text(text)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
        )

    return run


@pytest.mark.parametrize(
    ("name", "passed"), [("test_lamp.py", 1), ("test_trouble.py", 2), ("test_attack.py", 3)]
)
def test_an_example_passes_as_documented(project, name, passed):
    assert len(examples()[name].splitlines()) < LINES or name != "test_lamp.py"
    done = project(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{passed} passed" in done.stdout


def test_a_sketch_that_is_wrong_fails(project, tmp_path):
    """The control: a test with the plug-in can fail, and says what the board said."""
    lamp = tmp_path / "lamp.py"
    lamp.write_text(lamp.read_text().replace('b"21.5"', 'b"warm"'))
    done = project("test_lamp.py")
    assert done.returncode == 1 and "warm" in done.stdout


def test_an_installed_kit_changes_no_other_tests(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\ndef test(): assert not [m for m in sys.modules if 'limpet' in m]\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_other.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
