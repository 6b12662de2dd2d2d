"""Every build that is broken on purpose is seen: by a test of the area it is broken in, and by the audit's probes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from red_tests import RED

from orchestrator.audit.broken import KINDS

ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_has_a_test() -> None:
    assert list(RED) == list(KINDS)


@pytest.mark.parametrize("part", range(6))
def test_a_test_of_its_area_goes_red(part: int) -> None:
    """And not for another reason: the same tests are green in this suite."""
    wanted = {kind: [test] for kind, test in list(RED.items())[part::6]}
    script = str(Path(__file__).with_name("red.py"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, json.dumps(wanted)], stdout=subprocess.PIPE, env=environment, cwd=str(ROOT), check=True
    )
    assert json.loads(done.stdout) == wanted
