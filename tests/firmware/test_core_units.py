"""The firmware's own unit tests (firmware/test/unit.cpp), built with sanitizers."""

import subprocess

from orchestrator.boards.host_engine import SANITIZE, build


def test_core() -> None:
    done = subprocess.run([str(build("unit", SANITIZE))], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
