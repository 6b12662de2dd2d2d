"""engine/direct on a bare RV32IMC machine in qemu: the bits of TFLM, within the instructions and the code promised."""

from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest
from svdf_layers import svdf_layer

from model_export.plan import compile_plan
from orchestrator.boards.host_engine import HostBuildError
from orchestrator.boards.rv32 import code_bytes, missing, run_rv32

PROBLEM = missing()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))

INSTRUCTIONS = {"kws": 10.0e6, "vww": 30.0e6, "ic": 40.0e6, "ad": 0.9e6}
"""3.1 to 4 for each multiply-accumulate; TFLM with ESP-NN's generic C kernels takes 25.8, 65.3, 96.4 and 2.45 million."""
ARENA_BYTES = {"kws": 10_560, "vww": 37_024, "ic": 33_456, "ad": 768}
TFLM_CODE_BYTES = 38_600


@pytest.mark.parametrize("name", sorted(INSTRUCTIONS))
def test_bits_and_instructions(
    mlperf_tiny: Path, tflm: Callable[[bytes, np.ndarray], np.ndarray], make_rows: Callable[..., np.ndarray], name: str
) -> None:
    model = (mlperf_tiny / f"{name}_int8.tflite").read_bytes()
    rows = make_rows(model, 8)[[0, 1, 3, 5, 6, 7]]
    ran = run_rv32(model, rows)
    differs = ran.outputs != tflm(model, rows)
    assert differs.sum() == 0, f"{differs.any(axis=1).sum()} of {len(rows)} rows differ"
    assert ran.instructions.min() > 0
    assert ran.instructions.max() <= INSTRUCTIONS[name]
    assert compile_plan(model).arena_bytes <= ARENA_BYTES[name]


def test_counts_repeat(mlperf_tiny: Path, make_rows: Callable[..., np.ndarray]) -> None:
    model = (mlperf_tiny / "ad_int8.tflite").read_bytes()
    rows = make_rows(model, 6)[5:]
    assert run_rv32(model, rows).instructions.tolist() == run_rv32(model, rows).instructions.tolist()


def test_small_models(
    small_models: Dict[str, bytes],
    tflm: Callable[[bytes, np.ndarray], np.ndarray],
    make_rows: Callable[..., np.ndarray],
) -> None:
    for name, model in {**small_models, "filters of int8": svdf_layer("int8")}.items():
        rows = make_rows(model, 12)
        assert (run_rv32(model, rows).outputs == tflm(model, rows)).all(), name


@pytest.mark.parametrize("optimize", ["-Os", "-O2"])
def test_code_is_below_tflms(optimize: str) -> None:
    size = code_bytes(optimize)
    assert 4_000 < size["flash"] < TFLM_CODE_BYTES
    assert size["ram"] < 512


def test_what_the_program_refuses_is_an_error(mlperf_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import orchestrator.boards.rv32 as rv32

    model = (mlperf_tiny / "ad_int8.tflite").read_bytes()
    monkeypatch.setattr(rv32, "_padded", lambda data: bytes(len(data) + -len(data) % 16))
    with pytest.raises(HostBuildError, match="rv32 program failed: error"):
        run_rv32(model, np.zeros((1, 640), np.int8))
