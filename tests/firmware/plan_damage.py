"""A plan with each word of its header and records replaced by values that break careless checks, under sanitizers."""

import struct
import subprocess
from typing import Tuple

from model_export.plan import compile_plan
from orchestrator.boards.host_engine import SANITIZE, build


def every_word_damaged(tflite: bytes) -> Tuple[int, int]:
    """(how many such plans were refused, how many ran); AssertionError where one broke the engine."""
    plan = compile_plan(tflite).blob
    stdin = struct.pack("<3I", len(tflite), len(plan), 0) + tflite + plan
    done = subprocess.run([str(build("damage-plan", SANITIZE))], input=stdin, capture_output=True, timeout=850)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
    refused, ran = map(int, done.stdout.split())
    return refused, ran
