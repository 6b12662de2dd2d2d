"""Rounds on the embedded broker while it is flooded, as benchmarks/floods.py does it (benchmarks/results/floods.md)."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.gateway.web.staying import PROGRAM

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "floods.py"


@pytest.mark.parametrize("attack", ["malformed packets", "publishers"])
@pytest.mark.timeout(900)
def test_rounds_go_on_under_a_flood_and_memory_stays_bounded(attack: str) -> None:
    command = [sys.executable, str(SCRIPT), "--attack", attack, "--seconds", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["opened"] > 0
    assert figures["sent_mib"] > 1, "the broker read what was sent"
    assert figures["recovered"]
    assert figures["broker_mib"] < 400
    assert figures["gateway_mib"] < 120
    deadline = time.monotonic() + 120
    while is_dashboard(figures["dashboard_pid"]):
        assert time.monotonic() < deadline, "the dashboard outlived its gateway"
        time.sleep(0.1)


def is_dashboard(pid: int) -> bool:
    try:
        return PROGRAM.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
