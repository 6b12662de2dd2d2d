"""int8 models: int8 throughout, small op set, and as good as the float model."""

from typing import Any, Callable

import numpy as np
import pytest
from export_samples import SPECS, representative

from model_export.board_forms import MOST_STEPS
from model_export.errors import ExportError
from model_export.evaluation import softmax
from model_export.quantize import doubts, quantize_int8
from model_export.quiet import tensorflow
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel

ALLOWED = {
    "CONV_2D",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "MEAN",
    "RESHAPE",
    "EXPAND_DIMS",
    "FULLY_CONNECTED",
    "SOFTMAX",
}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_int8_throughout_with_few_operators(name: str, int8_blob: Callable[[str], bytes]) -> None:
    model = read_tflite(int8_blob(name))
    assert {op.code for op in model.ops} <= ALLOWED
    assert model.ops[-1].code == "SOFTMAX"
    edges = [model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]]
    assert [edge.dtype for edge in edges] == ["int8", "int8"]
    assert edges[0].shape == (1, *SPECS[name][1])
    assert not [t.name for t in model.tensors if t.dtype.startswith("float")]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_tflm_gives_the_float_models_probabilities(
    name: str, built: Callable[[str], Any], int8_blob: Callable[[str], bytes]
) -> None:
    x = representative(name)
    tflm = TflmModel(int8_blob(name))
    found = tflm.output.dequantize(tflm.run(tflm.input.quantize(x)))
    expected = softmax(built(name).predict(x, verbose=0))
    assert np.abs(found - expected).max() < 0.06
    assert np.abs(found - expected).mean() < 0.015


def test_dense_layers_get_one_scale_unless_asked(
    built: Callable[[str], Any], int8_blob: Callable[[str], bytes]
) -> None:
    def most_scales(blob: bytes) -> int:
        return max(len(t.scales) for t in read_tflite(blob).tensors)

    assert most_scales(int8_blob("mlp")) == 1
    assert most_scales(quantize_int8(built("mlp"), representative("mlp"), per_channel_dense=True)) == 16


def test_without_softmax_the_output_is_logits(built: Callable[[str], Any]) -> None:
    x = representative("mlp")
    tflm = TflmModel(quantize_int8(built("mlp"), x, softmax=False))
    assert "SOFTMAX" not in tflm.operator_names
    found = tflm.output.dequantize(tflm.run(tflm.input.quantize(x)))
    expected = built("mlp").predict(x, verbose=0)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((4, 12), np.float32), r"has shape \(4, 12\); accepted is \(rows, 13\)"),
        (np.zeros((0, 13), np.float32), r"has shape \(0, 13\)"),
        (np.array([["a"] * 13]), "accepted is float32"),
        (np.vstack([np.zeros((2, 13)), np.full((1, 13), np.nan)]), "NaN or infinity, first in row 2"),
    ],
)
def test_bad_representative_data_is_refused(rows: Any, message: str, built: Callable[[str], Any]) -> None:
    with pytest.raises(ExportError, match=message):
        quantize_int8(built("mlp"), rows)


def test_float_islands_are_refused() -> None:
    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((6,)), keras.layers.LayerNormalization(), keras.layers.Dense(3)])
    rows = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    with pytest.raises(ExportError, match="QUANTIZE"):
        quantize_int8(model, rows)


def test_a_relu6_that_changes_the_scale_gives_what_the_model_gives() -> None:
    """TFLM's leaves the values as they are: outputs were wrong by a quarter of their deviation."""
    tensorflow()
    import keras

    layers = keras.layers
    entry = keras.Input((8, 8, 3))
    wide = layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))(entry)
    cut = layers.ReLU(max_value=6)(wide)
    heads = [
        layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=n))(layers.Flatten()(x))
        for n, x in enumerate((wide, cut))
    ]
    model = keras.Model(entry, layers.Add()(heads))
    rows = np.random.default_rng(1).normal(0, 8, (60, 8, 8, 3)).astype(np.float32)
    tflm = TflmModel(quantize_int8(model, rows, softmax=False))
    want = np.asarray(model(rows))
    found = tflm.output.dequantize(tflm.run(tflm.input.quantize(rows)))
    assert np.abs(found - want).mean() < 0.05 * want.std()
    assert "RELU" in tflm.operator_names


def _loop(keras: Any) -> Any:
    return keras.Sequential(
        [keras.Input((MOST_STEPS + 1, 2)), keras.layers.Bidirectional(keras.layers.GRU(3, name="gru"))]
    )


def _with_kernel(value: float) -> Callable[[Any], Any]:
    def make(keras: Any) -> Any:
        return keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(2, kernel_initializer=keras.initializers.Constant(value))]
        )

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_loop, r"layer '.*gru' \(GRU\) is a loop over 129 steps.*up to 128 are unrolled"),
        (_with_kernel(float("nan")), "weights '.*dense.*/kernel' hold NaN or infinity"),
        (_with_kernel(float("inf")), "weights '.*dense.*/kernel' hold NaN or infinity"),
        (_with_kernel(3e38), "for representative row 0"),
    ],
)
def test_what_no_int8_stands_for_is_refused(make: Callable[[Any], Any], message: str) -> None:
    import keras

    model = make(keras)
    with pytest.raises(ExportError, match=message):
        quantize_int8(model, np.ones((3, *model.inputs[0].shape[1:]), np.float32), softmax=False)


def test_rows_that_show_too_little_are_doubted() -> None:
    rows = np.arange(120, dtype=np.float32).reshape(30, 4)
    assert doubts(rows) == []
    assert "of 5 representative rows" in doubts(rows[:5])[0]
    assert "are the same" in doubts(np.ones((30, 4), np.float32))[0]
    assert doubts(rows[:0]) == []
