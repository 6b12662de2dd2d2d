"""engine/direct gives the bits of TFLM on small models that between them use every operator it has."""

from typing import Callable, Dict

import numpy as np
import pytest

from model_export.operators import aliases, supported
from model_export.plan import compile_plan
from model_export.tflite_file import read_tflite
from orchestrator.boards.host_engine import SANITIZE, HostBuildError, run_direct

NAMES = [
    "binary",
    "branches",
    "dense",
    "dense_per_tensor",
    "filters",
    "gated",
    "image",
    "moved",
    "padded",
    "peaks",
    "rectified",
    "regression",
    "remembered",
    "residual",
    "signal",
    "streaming",
    "surrounded",
    "unpacked",
    "upsampled",
]


@pytest.mark.parametrize("name", NAMES)
def test_equals_tflm(
    small_models: Dict[str, bytes],
    tflm: Callable[[bytes, np.ndarray], np.ndarray],
    make_rows: Callable[..., np.ndarray],
    name: str,
) -> None:
    model = small_models[name]
    rows = make_rows(model, 205)
    want = tflm(model, rows)
    assert len(np.unique(want)) > 20, "the outputs hardly vary: this would prove little"
    differs = run_direct(model, rows) != want
    assert differs.sum() == 0, f"{differs.any(axis=1).sum()} of {len(rows)} rows differ"


@pytest.mark.parametrize("name", NAMES)
def test_no_byte_out_of_bounds(small_models: Dict[str, bytes], make_rows: Callable[..., np.ndarray], name: str) -> None:
    model = small_models[name]
    rows = make_rows(model, 6)
    np.testing.assert_array_equal(run_direct(model, rows, SANITIZE), run_direct(model, rows))


def test_every_operator_is_covered(small_models: Dict[str, bytes]) -> None:
    used = {op.code for model in small_models.values() for op in read_tflite(model).ops}
    assert supported() <= used
    assert used <= supported() | aliases()


def test_a_rectifier_that_rescales_is_among_them(small_models: Dict[str, bytes]) -> None:
    model = read_tflite(small_models["rectified"])
    pairs = [(model.tensors[op.inputs[0]], model.tensors[op.outputs[0]]) for op in model.ops if op.code == "RELU"]
    assert any(source.scales[0] != result.scales[0] for source, result in pairs)


def test_dense_layers_of_both_kinds(small_models: Dict[str, bytes]) -> None:
    def scales(name: str) -> int:
        model = read_tflite(small_models[name])
        return len(model.tensors[model.ops[0].inputs[1]].scales)

    assert scales("dense") == 17
    assert scales("dense_per_tensor") == 1


def test_rows_of_the_wrong_size_are_refused(small_models: Dict[str, bytes]) -> None:
    width = compile_plan(small_models["dense"]).input_bytes
    with pytest.raises(HostBuildError, match="30 values"):
        run_direct(small_models["dense"], np.zeros((2, width + 1), np.int8))
    with pytest.raises(HostBuildError, match="float32"):
        run_direct(small_models["dense"], np.zeros((2, width), np.float32))
    assert run_direct(small_models["dense"], np.zeros((0, width), np.int8)).shape == (0, 5)
