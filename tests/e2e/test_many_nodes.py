"""A thousand nodes on one gateway: real MQTT connections to a real mosquitto, the product's agents."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import BROKER_PATH

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.timeout(900)
def test_a_thousand_connections_complete_a_round() -> None:
    if not shutil.which("mosquitto", path=BROKER_PATH):
        pytest.skip("mosquitto is not installed")
    command = [sys.executable, str(BENCHMARKS / "connections.py"), "--clients", "1000", "--rounds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(f"round {figures['seconds_per_round'][0]:.1f} s, gateway {figures['gateway_mib']:.0f} MiB")
    assert figures["updates"] == [1000]
    assert figures["gateway_mib"] < 160
