"""The firmware's own unit tests (firmware/test/unit.cpp, unit_engine.cpp), built with sanitizers."""

import subprocess

import pytest

from orchestrator.boards.host_engine import SANITIZE, build


@pytest.mark.parametrize("program", ["unit", "unit-engine"])
def test_core(program: str) -> None:
    done = subprocess.run([str(build(program, SANITIZE))], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
