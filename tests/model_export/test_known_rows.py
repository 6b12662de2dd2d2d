"""Known answers a correct board cannot fail: rows on which both roundings of a dense layer's scale agree."""

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

from model_export import known_answers
from model_export.bundle import write_bundle
from model_export.errors import ExportError
from model_export.known_rows import fair_rows
from model_export.model_bin import parse_model_bin
from model_export.plan_math import multiply_by_quantized
from model_export.roundings import product_in_double, product_in_float, rescale
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel

SCALES = tuple(np.float32(s) for s in (0.0478, 0.00391, 0.1133))


def test_rescale_is_the_integer_arithmetic_of_the_plan() -> None:
    values = np.random.default_rng(0).integers(-(2**30), 2**30, 200)
    for multiplier, shift in ((2**30, 0), (1518500249, -9), (2**31 - 1, -31), (1190000003, 1)):
        inputs = values >> max(shift, 0)
        want = [multiply_by_quantized(int(v), multiplier, shift) for v in inputs]
        assert rescale(inputs, multiplier, shift).tolist() == want


def test_the_two_ways_differ_and_where_is_found() -> None:
    accumulators = np.arange(2**22)
    one, other = (rescale(accumulators, *way(*SCALES)) for way in (product_in_double, product_in_float))
    assert 0 < np.count_nonzero(one != other) < 1000
    assert np.abs(one - other).max() == 1


def test_inner_tensors_of_tflm(shared_data: Callable[[str], Path]) -> None:
    """Each layer computed from the tensor before it gives the tensor TFLM has after it."""
    blob = shared_data("mlperf-tiny/ad_int8.tflite").read_bytes()
    model, parsed = TflmModel(blob), read_tflite(blob)
    rows = np.random.default_rng(2).integers(-128, 128, (3, 640)).astype(np.int8)
    tensors = model.run_tensors(rows, [op.outputs[0] for op in parsed.ops])
    np.testing.assert_array_equal(tensors[parsed.outputs[0]], model.run(rows))
    inner = parsed.ops[3].outputs[0]
    assert tensors[inner].shape == (3, int(np.prod(parsed.tensors[inner].shape)))
    assert len(np.unique(tensors[inner])) > 10
    assert fair_rows(model, blob, rows).all()


def test_an_unfair_row_does_not_become_a_known_answer(
    tmp_path: Path, int8_blob: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(1).integers(-128, 128, (7, 13)).astype(np.int8)
    blob = int8_blob("mlp")

    def all_but_the_second(_: object, __: object, given: np.ndarray) -> np.ndarray:
        return np.arange(len(given)) != 1

    monkeypatch.setattr(known_answers, "fair_rows", all_but_the_second)
    write_bundle(tmp_path / "b", tflite=blob, name="m", known_rows=rows)
    answers = parse_model_bin((tmp_path / "b" / "model.bin").read_bytes()).known_answers
    assert answers is not None
    np.testing.assert_array_equal(answers.inputs, rows[[0, 2, 3, 4]])

    monkeypatch.setattr(known_answers, "fair_rows", lambda _, __, given: np.zeros(len(given), bool))
    with pytest.raises(ExportError, match="known_rows"):
        write_bundle(tmp_path / "c", tflite=blob, name="m", known_rows=rows)
