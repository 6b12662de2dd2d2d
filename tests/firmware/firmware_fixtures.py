"""Shared by the firmware tests: models, and TFLM itself as the oracle."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest
from once import filled_once

from model_export.operators.recurrent import each_row_a_series
from model_export.tflite_file import read_tflite


@pytest.fixture(scope="session")
def mlperf_tiny(shared_data: Callable[[str], Path]) -> Path:
    return shared_data("mlperf-tiny")


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    """The models of small_models.py by name, converted once in a process of its own."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow converts the small models, and is not installed")
    script = Path(__file__).with_name("small_models.py")

    def convert(folder: Path) -> None:
        subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)

    folder = filled_once(tmp_path_factory, "small-models", convert)
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.tflite"))}


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
            if each_row_a_series(parsed):
                interpreter.reset()
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
