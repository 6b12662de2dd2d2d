"""Shared by the board tests: a model that needs no TensorFlow to make, and its outputs as TFLM gives them."""

from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from board_sample import Sample

from model_export.model_bin import KnownAnswers, pack_model_bin
from model_export.plan import compile_plan
from orchestrator.boards.host_engine import run_direct


@pytest.fixture(scope="session")
def sample(shared_data: Callable[[str], Path]) -> Sample:
    """MLPerf Tiny's keyword spotting model (490 bytes in, 12 out) as a model.bin with three known answers."""
    tflite = (shared_data("mlperf-tiny") / "kws_int8.tflite").read_bytes()
    plan = compile_plan(tflite)
    rows = np.random.default_rng(5).integers(-128, 128, (120, plan.input_bytes)).astype(np.int8)
    outputs = run_direct(tflite, rows)
    model_bin = pack_model_bin(
        name="kws01",
        tflite=tflite,
        plan=plan.blob,
        arena_tflm_bytes=30000,
        arena_direct_bytes=plan.arena_bytes,
        known_answers=KnownAnswers(rows[:3], outputs[:3]),
    )
    return Sample(model_bin, rows, outputs)
