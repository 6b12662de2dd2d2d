"""Rows that check a model: nobody's, of many kinds, and reaching the ends of what it can say."""

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from export_samples import representative

from model_export.bundle import write_bundle
from model_export.model_bin import parse_model_bin
from model_export.models import build_model
from model_export.quantize import quantize_int8
from model_export.synthetic_rows import choose_rows, inner_ends, synthetic_rows, telling_rows
from model_export.tflm import Quantized, TflmModel

ENTRY = Quantized((1, 50, 2), "int8", 0.1, 9)


def test_they_come_from_the_seed_alone_and_fill_the_range() -> None:
    rows = synthetic_rows(ENTRY, 256)
    assert rows.dtype == np.int8
    assert rows.shape == (256, 50, 2)
    np.testing.assert_array_equal(rows, synthetic_rows(ENTRY, 256))
    assert (rows != synthetic_rows(ENTRY, 256, seed=1)).any()
    assert len(np.unique(rows)) == 256
    means = rows.reshape(256, -1).mean(1)
    assert means.min() == -128
    assert means.max() == 127
    assert np.std(means) > 15, "noise alone would average out"
    assert synthetic_rows(ENTRY, 1).shape == (1, 50, 2)


def test_few_rows_show_most_ends() -> None:
    outputs = np.array([[0, 0], [5, -5], [-5, 5], [5, 5], [4, 4]], np.int8)
    assert choose_rows(outputs, 2) == [1, 2]
    assert choose_rows(outputs, 9) == [1, 2, 0, 3, 4]


def test_they_show_what_is_inside_besides() -> None:
    outputs = np.array([[0], [1], [0], [1]], np.int8)
    inner = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 0]], bool)
    assert choose_rows(outputs, 2, inner) == [3, 2]
    assert choose_rows(outputs, 2, np.zeros((4, 0), bool)) == [0, 1]


def test_known_answers_saturate_every_operator(tmp_path: Path, built: Callable[[str], Any]) -> None:
    """Each end that any of the rows offered reaches, of any operator: an engine may be wrong there and nowhere else."""
    blob = quantize_int8(built("mlp"), representative("mlp"))
    write_bundle(tmp_path / "b", tflite=blob, name="m")
    answers = parse_model_bin((tmp_path / "b" / "model.bin").read_bytes()).known_answers
    assert answers is not None
    model = TflmModel(blob)
    offered, _ = telling_rows(model)
    shape = (len(answers.inputs), *model.input.shape[1:])
    shown = np.asarray(inner_ends(model, answers.inputs.reshape(shape)).any(0))
    reachable = np.asarray(inner_ends(model, offered).any(0))
    assert reachable.sum() >= 4
    assert shown[reachable].all()


@pytest.mark.parametrize("shape", [(3,), (30,), (40, 2)])
def test_known_answers_reach_saturation(tmp_path: Path, shape: Any) -> None:
    """Each class both as sure as int8 can say and as ruled out as it can."""
    kind = {"kind": "mlp", "hidden": []} if len(shape) == 1 else {"kind": "cnn1d", "filters": [4], "kernel": 3}
    model = build_model(kind, shape, 2, seed=1)
    for variable in model.trainable_variables:
        variable.assign(variable * 4.0)
    x = np.random.default_rng(1).standard_normal((60, *shape)).astype(np.float32)
    write_bundle(tmp_path / "b", tflite=quantize_int8(model, x), name="m")
    answers = parse_model_bin((tmp_path / "b" / "model.bin").read_bytes()).known_answers
    assert answers is not None
    assert len(answers.inputs) == 4
    slack = 0 if len(shape) == 1 else 5  # a hidden layer's own range may end before the softmax does
    assert (answers.outputs.min(0) <= -128 + slack).all()
    assert (answers.outputs.max(0) >= 127 - slack).all()
    assert len(np.unique(answers.inputs, axis=0)) == 4


def test_they_do_not_depend_on_the_calibration_rows(tmp_path: Path, built: Callable[[str], Any]) -> None:
    """The same ranges from other rows: the same model, the same known answers."""
    x = representative("mlp")
    x[0], x[1] = 3.0, -3.0
    x = x.clip(-3, 3)
    other = np.concatenate([x[:2], x[2:][::-1]])
    kept = []
    for rows in (x, other):
        blob = quantize_int8(built("mlp"), rows)
        write_bundle(tmp_path / "b", tflite=blob, name="m", reference_rows=TflmModel(blob).input.quantize(rows))
        answers = parse_model_bin((tmp_path / "b" / "model.bin").read_bytes()).known_answers
        assert answers is not None
        kept.append(answers)
    np.testing.assert_array_equal(kept[0].inputs, kept[1].inputs)
