"""The prediction of TFLM's arena on 32 bit against what was measured on rv32, and against the wheel on 64 bit."""

from pathlib import Path
from typing import Dict

import pytest

from model_export.arena32 import predict_arena
from model_export.preflight import preflight
from model_export.tflm import TflmModel

MEASURED_ON_RV32 = {"kws": 22_780, "vww": 100_668, "ic": 54_364, "ad": 2_380}
"""arena_used_bytes() of esp-tflite-micro 1.4.0 with reference kernels, rv32imc, in qemu."""


@pytest.mark.parametrize("name", sorted(MEASURED_ON_RV32))
def test_within_two_percent_of_rv32(mlperf_tiny: Path, name: str) -> None:
    model = (mlperf_tiny / f"{name}_int8.tflite").read_bytes()
    prediction = predict_arena(model, TflmModel(model))
    assert abs(prediction.total_bytes / MEASURED_ON_RV32[name] - 1) <= 0.02
    assert prediction.confirmed


def test_every_operator_of_engine_direct_is_understood(small_models: Dict[str, bytes]) -> None:
    """The same computation with 64-bit pointers gives the tail the wheel measured, byte for byte."""
    for name, model in small_models.items():
        prediction = predict_arena(model, TflmModel(model))
        assert prediction.confirmed, name
        assert prediction.unknown_operators == (), name


def test_the_kernel_of_the_s3_that_is_wrong(small_models: Dict[str, bytes]) -> None:
    def warned(chip: str, name: str) -> bool:
        return any(f.check == "esp-nn#34" for f in preflight(small_models[name], chip, 491_520).findings)

    assert warned("esp32s3", "dense")  # 17 and 5 outputs, one scale each
    assert not warned("esp32s3", "dense_per_tensor")
    assert not warned("esp32c3", "dense")
