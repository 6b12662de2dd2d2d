"""A skip is a failure where everything is required, unless the list of exceptions says why it is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from required import ALLOWED, REQUIRE_ALL
from slow import SLOW, TESTS

ROOT = TESTS.parent

SOME = """
import pytest

@pytest.mark.skipif(True, reason="tool is not installed")
def test_marked(): pass

def test_called(): pytest.skip("data are absent")

def test_fine(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert 0
"""
MODULE = "import pytest\npytest.importorskip('no_such_module', reason='package is absent')\ndef test_it(): pass\n"
PERMITTED = "import pytest\ndef test_it(): pytest.skip('no Python 3.8 on this machine (looked)')\n"


def run(folder: Path, everything: bool) -> "subprocess.CompletedProcess[str]":
    (folder / "test_some.py").write_text(SOME)
    (folder / "test_module.py").write_text(MODULE)
    (folder / "test_permitted.py").write_text(PERMITTED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), REQUIRE_ALL: str(int(everything))}
    command = [sys.executable, "-m", "pytest", "-p", "required", "-p", "no:cacheprovider", "-n0", "--rootdir=.", "."]
    command += ["--continue-on-collection-errors"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_skips_are_summed_up_with_their_reasons(tmp_path: Path) -> None:
    done = run(tmp_path, False)
    assert done.returncode == 0
    summary = done.stdout.split("not run, and why")[1]
    for reason in ("tool is not installed", "data are absent", "package is absent", "looked) (neither Debian"):
        assert f"   1  {reason}" in summary or reason in summary
    assert "known" not in summary


def test_where_all_is_required_a_skip_fails_but_for_the_list(tmp_path: Path) -> None:
    done = run(tmp_path, True)
    assert done.returncode not in (0, 5)
    for reason in ("tool is not installed", "data are absent", "package is absent"):
        assert f"was skipped, and {REQUIRE_ALL} is set: {reason}" in done.stdout
    assert "test_permitted.py" not in done.stdout.split("short test summary info")[1]


def test_continuous_integration_requires_all_and_the_inner_loop_leaves_out_the_slow() -> None:
    assert f"export {REQUIRE_ALL}=1" in (ROOT / ".ci/run").read_text()
    assert '-m "not slow"' in (ROOT / "Makefile").read_text()
    assert not [name for name in SLOW if not (TESTS / name).exists()]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        "not slow",
        "-n0",
        "-p",
        "no:cacheprovider",
    ]
    command += ["tests/wire/test_bounds.py", "tests/wire/test_any_message.py", "tests/e2e/test_demo.py"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert {line.split("::")[0] for line in found.stdout.splitlines() if "::" in line} == {"tests/wire/test_bounds.py"}


@pytest.mark.parametrize("why", ALLOWED.values())
def test_every_exception_says_why(why: str) -> None:
    assert len(why.split()) > 4
