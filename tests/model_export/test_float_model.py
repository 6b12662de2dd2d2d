"""The float files of a bundle give what the model gives, and the int8 model differs by its quantization only."""

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from export_samples import representative

from model_export.evaluation import softmax
from model_export.float_model import float_files, forward_function
from model_export.gradient_check import run_graph
from model_export.plan import compile_plan
from model_export.quantize import quantize_int8
from model_export.quiet import tensorflow


@pytest.mark.parametrize("name", ["mlp", "cnn1d"])
@pytest.mark.parametrize("appended", [True, False])
def test_both_files_give_what_the_model_gives(
    built: Callable[[str], Any], tmp_path: Path, name: str, appended: bool
) -> None:
    import keras

    x = representative(name, 20)
    logits = np.asarray(built(name).predict(x, verbose=0))
    expected = softmax(logits) if appended else logits
    files = float_files(built(name), softmax=appended)
    np.testing.assert_allclose(run_graph(files["model_float.tflite"], {"rows": x})["rows"], expected, atol=1e-5)
    (tmp_path / "model.keras").write_bytes(files["model.keras"])
    model = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    np.testing.assert_array_equal(built(name).predict(x, verbose=0), logits)  # the model itself stays as it was


def test_a_layer_of_the_same_name_is_no_obstacle(tmp_path: Path) -> None:
    import keras

    layers = [keras.Input((3,)), keras.layers.Dense(4, name="probabilities"), keras.layers.Dense(2)]
    (tmp_path / "model.keras").write_bytes(float_files(keras.Sequential(layers), softmax=True)["model.keras"])
    found = keras.models.load_model(tmp_path / "model.keras").predict(np.ones((1, 3)), verbose=0)
    assert found.sum() == pytest.approx(1)


def test_what_a_board_has_no_kernel_for_is_traced_in_another_form_of_the_same_values() -> None:
    tensorflow()
    import keras

    layers = keras.layers
    parts = [
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.UpSampling1D(3),
        layers.GRU(4, return_sequences=True),
        layers.Reshape((12, 2, 2)),
        layers.UpSampling2D((1, 3)),
    ]
    model = keras.Sequential([keras.Input((4, 2)), *parts])
    rows = np.random.default_rng(2).normal(size=(6, 4, 2)).astype(np.float32)
    before = np.asarray(model(rows))
    forward = forward_function(model, softmax=False)
    found = np.concatenate([np.asarray(forward(row[None])) for row in rows])
    np.testing.assert_allclose(found, before, atol=1e-6)
    kinds = {node.type for node in forward.graph.get_operations()}
    assert "ResizeNearestNeighbor" in kinds
    assert not {"While", "StatelessWhile", "TensorListReserve", "Tile", "BroadcastTo"} & kinds
    assert not parts[0].forward_layer.unroll, "the model stays as it was"
    assert not parts[2].unroll
    assert layers.UpSampling1D(2)(np.ones((1, 2, 1))).shape == (1, 4, 1)


def test_loops_become_int8_every_time() -> None:
    """The converter left their splits in float about one time in three."""
    tensorflow()
    import keras

    model = keras.Sequential([keras.Input((3, 2)), keras.layers.LSTM(4), keras.layers.Dense(2)])
    rows = np.random.default_rng(2).normal(size=(20, 3, 2)).astype(np.float32)
    for _ in range(6):
        assert compile_plan(quantize_int8(model, rows, softmax=False)).ops.count("move") > 2
