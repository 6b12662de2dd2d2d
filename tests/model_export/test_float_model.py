"""The float files of a bundle give what the model gives, and the int8 model differs by its quantization only."""

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from export_samples import representative

from model_export.evaluation import softmax
from model_export.float_model import float_files
from model_export.gradient_check import run_graph


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
