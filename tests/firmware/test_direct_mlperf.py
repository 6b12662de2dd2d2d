"""engine/direct gives the bits of TFLM on the four MLPerf Tiny models."""

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from model_export.plan import compile_plan
from orchestrator.boards.host_engine import run_direct

TFLM_ARENA_32_BIT = {"kws": 22_780, "vww": 100_668, "ic": 54_364, "ad": 2_380}


@pytest.mark.parametrize("name", sorted(TFLM_ARENA_32_BIT))
def test_equals_tflm(
    mlperf_tiny: Path, tflm: Callable[[bytes, np.ndarray], np.ndarray], make_rows: Callable[..., np.ndarray], name: str
) -> None:
    model = (mlperf_tiny / f"{name}_int8.tflite").read_bytes()
    inputs = make_rows(model, 205)
    differs = run_direct(model, inputs) != tflm(model, inputs)
    assert differs.sum() == 0, f"{differs.any(axis=1).sum()} of {len(inputs)} rows differ"


@pytest.mark.parametrize("name", sorted(TFLM_ARENA_32_BIT))
def test_arena_is_below_tflm(mlperf_tiny: Path, name: str) -> None:
    plan = compile_plan((mlperf_tiny / f"{name}_int8.tflite").read_bytes())
    assert plan.arena_bytes <= 0.8 * TFLM_ARENA_32_BIT[name]


def test_weights_are_not_stored_twice(mlperf_tiny: Path) -> None:
    model = (mlperf_tiny / "vww_int8.tflite").read_bytes()
    assert len(compile_plan(model).blob) < len(model) / 8


def test_rows_do_not_depend_on_each_other(mlperf_tiny: Path, make_rows: Callable[..., np.ndarray]) -> None:
    model = (mlperf_tiny / "kws_int8.tflite").read_bytes()
    rows = make_rows(model, 8)
    together = run_direct(model, rows)
    np.testing.assert_array_equal(run_direct(model, rows[::-1].copy()), together[::-1])
