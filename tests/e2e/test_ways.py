"""One update, one record and one board's report stay followable: through how few files each passes, in real processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

ROOT = Path(__file__).parents[2]
MOST = {"update": 15, "record": 12, "report": 15}
"""16, 14 and 16 before the house was given its shape (benchmarks/results/ways.md)."""

PASSED = {
    "update": ("orchestrator/node/trainer.py", "orchestrator/wire/codec.py", "orchestrator/rounds/strategy.py"),
    "record": ("orchestrator/data/table.py", "orchestrator/privacy/noisy_sum.py", "orchestrator/node/runtime.py"),
    "report": ("firmware/core/output.cpp", "orchestrator/boards/protocol.py", "orchestrator/boards/exporters.py"),
}
"""What each passes through without doubt: a count that misses one of them counts something else."""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="functions have qualified names from Python 3.11 on")
def test_each_passes_through_few_files() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "ways.py"), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout).values()
    ways: Dict[str, Dict[str, List[str]]] = found
    for kind, most in MOST.items():
        assert set(PASSED[kind]) <= set(ways[kind]), kind
        assert len(ways[kind]) <= most, (kind, sorted(ways[kind]))
