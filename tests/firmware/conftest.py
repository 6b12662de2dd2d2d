"""Shared by the firmware tests: the MLPerf Tiny models, and TFLM itself as the oracle."""

import os
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from model_export.tflite_file import read_tflite


@pytest.fixture(scope="session")
def mlperf_tiny() -> Path:
    shared = Path(os.environ.get("EDGEWARD_SHARED", Path(__file__).parents[3] / "shared"))
    folder = shared / "data" / "mlperf-tiny"
    if not folder.is_dir():
        pytest.skip(f"no MLPerf Tiny models in {folder}; set EDGEWARD_SHARED")
    return folder


@pytest.fixture(scope="session")
def tflm() -> Callable[[bytes, np.ndarray], np.ndarray]:
    """(model, int8 rows) -> the int8 outputs of the tflite-micro wheel, the only oracle for bits."""
    runtime = pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle").runtime

    def run(model: bytes, rows: np.ndarray) -> np.ndarray:
        parsed = read_tflite(model)
        shape = parsed.tensors[parsed.inputs[0]].shape
        interpreter = runtime.Interpreter.from_bytes(model)
        outputs = []
        for row in rows:
            interpreter.set_input(row.reshape(shape), 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0).reshape(-1).copy())
        return np.array(outputs, np.int8)

    return run


def random_and_extreme_rows(model: bytes, count: int, seed: int = 0) -> np.ndarray:
    """int8 (count, input elements): random noise, after five rows at the ends of the range."""
    parsed = read_tflite(model)
    width = int(np.prod(parsed.tensors[parsed.inputs[0]].shape))
    rows = np.random.default_rng(seed).integers(-128, 128, (count, width)).astype(np.int8)
    rows[0], rows[1], rows[2] = -128, 127, 0
    rows[3, ::2], rows[3, 1::2] = -128, 127
    rows[4, ::2], rows[4, 1::2] = 127, -128
    return rows


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., np.ndarray]:
    return random_and_extreme_rows
