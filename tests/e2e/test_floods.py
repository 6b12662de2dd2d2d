"""Rounds on the embedded broker while it is flooded, as benchmarks/floods.py does it (benchmarks/results/floods.md)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
