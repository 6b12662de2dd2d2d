"""TFLM as the oracle: numbers, arena, and models it cannot take."""

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from export_samples import representative

from model_export import tflm as tflm_module
from model_export.errors import ExportError, TfliteError, TflmError, UnsupportedOperatorError
from model_export.quantize import quantize_int8
from model_export.quiet import tensorflow
from model_export.tflm import Quantized, TflmModel


def with_a_giant_output(blob: bytes) -> bytes:
    """The same model claiming 6,000,000 outputs for its first dense layer: TFLM reads far behind its weights."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(blob, 0))
    graph = model.subgraphs[0]
    graph.tensors[graph.operators[0].outputs[0]].shape = np.array([1, 6_000_000], np.int32)
    builder = flatbuffers.Builder(len(blob))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_one_dense_layer_by_hand() -> None:
    """A fully connected layer against integer arithmetic written here: q = zp + round(M * (W (x - zx) + b))."""
    tensorflow()
    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 5)).astype(np.float32)
    tflm = TflmModel(quantize_int8(model, x, softmax=False))
    kernel, bias = (v.numpy() for v in model.trainable_variables)
    rows = tflm.input.quantize(x)
    exact = tflm.input.dequantize(rows).astype(np.float64) @ kernel + bias
    found = tflm.output.dequantize(tflm.run(rows))
    weight_step = np.abs(kernel).max() / 127
    bound = tflm.output.scale * 0.51 + 0.5 * weight_step * np.abs(x).sum(1, keepdims=True) + 0.02
    assert (np.abs(found - exact) <= bound).all()
    assert len(np.unique(found.argmax(1))) > 1


def test_rows_do_not_depend_on_their_neighbours(int8_blob: Callable[[str], bytes]) -> None:
    tflm = TflmModel(int8_blob("cnn1d"))
    rows = tflm.input.quantize(representative("cnn1d", 6))
    together = tflm.run(rows)
    np.testing.assert_array_equal(together[::-1], tflm.run(rows[::-1]))
    np.testing.assert_array_equal(together, tflm.run(rows.reshape(6, -1)))
    assert together.shape == (6, 4)
    assert together.dtype == np.int8
    assert tflm.run(rows[:0]).shape == (0, 4)


def test_arena_of_published_models(shared_data: Callable[[str], Path]) -> None:
    """64-bit totals of the recording allocator."""
    for name, total in (("ad", 3984), ("kws", 24272), ("ic", 55984)):
        arena = TflmModel(shared_data(f"mlperf-tiny/{name}_int8.tflite").read_bytes()).arena
        assert arena.total == arena.head + arena.tail == total


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    edge = Quantized((1, 5), "int8", 0.5, 3)
    np.testing.assert_array_equal(edge.quantize(np.array([[0.25, 0.75, -0.25, 1000, -1000]])), [[3, 5, 3, 127, -128]])
    np.testing.assert_array_equal(edge.dequantize(np.array([[3, 5, 127]], np.int8)), [[0, 1, 62]])


def test_an_operator_tflm_lacks_is_named_with_its_place() -> None:
    tensorflow()
    tensorflow()
    import keras

    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(4, activation="gelu"), keras.layers.Dense(2)]
    )
    rows = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    with pytest.raises(UnsupportedOperatorError, match=r"no kernel for GELU \(operator 2\)"):
        TflmModel(quantize_int8(model, rows))


def test_a_crash_in_tflm_is_an_error_here(int8_blob: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TflmError, match="which TFLM does not check"):
        TflmModel(with_a_giant_output(int8_blob("mlp")))
    monkeypatch.setattr(tflm_module, "_check_stops", lambda model: None)
    with pytest.raises(TflmError, match=r"killed by signal \d+"):
        TflmModel(with_a_giant_output(int8_blob("mlp")))


def test_what_is_no_int8_model_is_refused(built: Callable[[str], Any]) -> None:
    tf = tensorflow()
    with pytest.raises(TfliteError, match="no TFL3 identifier"):
        TflmModel(b"hello, this is not a model at all")
    function = tf.function(lambda x: x * 2.0, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    blob = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert()
    with pytest.raises(ExportError, match="input is float32"):
        TflmModel(blob)


def test_wrong_rows_are_refused(int8_blob: Callable[[str], bytes]) -> None:
    tflm = TflmModel(int8_blob("mlp"))
    with pytest.raises(ExportError, match="the rows are float32; the model takes int8"):
        tflm.run(np.zeros((2, 13), np.float32))
    with pytest.raises(ExportError, match=r"shape \(2, 12\); the model takes \(rows, 13\)"):
        tflm.run(np.zeros((2, 12), np.int8))


@pytest.mark.parametrize("zero", [slice(0, 4), slice(2, 4)])
def test_a_model_that_gives_nothing_but_zeros_is_named(zero: slice) -> None:
    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2, "softmax")])
    weights = model.get_weights()
    for array in weights[zero]:
        array[:] = 0
    model.set_weights(weights)
    blob = quantize_int8(model, np.random.default_rng(0).normal(size=(64, 4)).astype("f4"), softmax=False)
    with pytest.raises(TflmError, match=r"SOFTMAX \(operator \d\) is given the same values.*train the model"):
        TflmModel(blob)
