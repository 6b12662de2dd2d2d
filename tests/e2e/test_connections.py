"""A thousand real MQTT connections on one gateway and one mosquitto complete their rounds; see benchmarks/connections.py."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BROKER_PATH

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "connections.py"


@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("mosquitto", path=BROKER_PATH), reason="mosquitto is not installed")
def test_a_thousand_connections_complete_two_rounds() -> None:
    command = [sys.executable, str(SCRIPT), "--connections", "1000", "--params", "10000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["updates"] == [1000, 1000]
    assert figures["connected_at_the_end"] == 1000
    assert figures["answers"] == 2000, "nobody computed a round twice"
    assert figures["gateway_mib"] < 150
    assert figures["bytes_up_per_round"] < 0.3 * 4 * 10_000 * 1000
