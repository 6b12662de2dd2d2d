"""What the process of a training graph does before it runs anything."""

import platform
import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
from orchestrator.node.graph_child import flush_subnormals
small = np.full(64, 1e-20, np.float32)
before = (small * np.float32(1e-20)).max() > 0
print(flush_subnormals(), before, (small * np.float32(1e-20)).max() > 0)
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or not sys.platform.startswith("linux"),
    reason="subnormal numbers are switched off on Linux for x86-64 and aarch64 only",
)
def test_subnormal_numbers_are_zeros() -> None:
    """They are slow on many processors: a graph could have the answer for one record come late."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False"]
