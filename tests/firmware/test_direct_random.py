"""engine/direct gives the bits of TFLM on random models. EDGEWARD_RANDOM_MODELS sets how many, EDGEWARD_RANDOM_SEED which."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_export.operators import aliases, supported
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.tflite_file import read_tflite
from orchestrator.boards.host_engine import SANITIZE, run_direct

COUNT = int(os.environ.get("EDGEWARD_RANDOM_MODELS", "12"))
SEED = int(os.environ.get("EDGEWARD_RANDOM_SEED", str(random.randrange(10**6))))


@pytest.fixture(scope="module")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> Dict[int, bytes]:
    """(seed, model) pairs, converted in one process."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow converts the models, and is not installed")
    folder = tmp_path_factory.mktemp("random-models")
    script = Path(__file__).with_name("random_models.py")
    command = [sys.executable, str(script), str(folder), str(SEED), str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    made = {int(path.stem): path.read_bytes() for path in folder.glob("*.tflite")}
    assert len(made) == COUNT
    # About one in 300 gets a TRANSPOSE from the converter: that one has to be refused by name.
    usable = {}
    for seed, model in made.items():
        lacking = {op.code for op in read_tflite(model).ops} - supported() - aliases()
        if not lacking:
            usable[seed] = model
            continue
        with pytest.raises(PlanError, match="|".join(sorted(lacking))):
            compile_plan(model)
    assert len(usable) >= 0.8 * COUNT
    return usable


def test_random_models_equal_tflm(
    random_models: Dict[int, bytes],
    tflm: Callable[[bytes, np.ndarray], np.ndarray],
    make_rows: Callable[..., np.ndarray],
) -> None:
    used = set()
    for seed, model in sorted(random_models.items()):
        used |= {op.code for op in read_tflite(model).ops}
        rows = make_rows(model, 40, seed)
        differs = run_direct(model, rows) != tflm(model, rows)
        assert not differs.any(), f"EDGEWARD_RANDOM_SEED={seed}: {differs.any(axis=1).sum()} of {len(rows)} rows differ"
    if COUNT >= 12:
        assert {"CONV_2D", "FULLY_CONNECTED"} <= used


def test_rows_found_by_hypothesis(
    random_models: Dict[int, bytes], tflm: Callable[[bytes, np.ndarray], np.ndarray]
) -> None:
    """Rows made of few values, where rounding and saturation meet: hypothesis looks for one that differs."""
    seed, model = max(random_models.items(), key=lambda item: len(read_tflite(item[1]).ops))
    width = compile_plan(model).input_bytes

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(-128, 127), min_size=1, max_size=8))
    def rows_equal(pattern: List[int]) -> None:
        rows = np.resize(np.array(pattern, np.int8), (1, width))
        np.testing.assert_array_equal(run_direct(model, rows), tflm(model, rows), f"EDGEWARD_RANDOM_SEED={seed}")

    rows_equal()


def test_random_models_stay_in_bounds(random_models: Dict[int, bytes], make_rows: Callable[..., np.ndarray]) -> None:
    for model in list(random_models.values())[:4]:
        rows = make_rows(model, 6)
        np.testing.assert_array_equal(run_direct(model, rows, SANITIZE), run_direct(model, rows))
