"""Model specs: what they build, what they refuse, and weights as one flat vector."""

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from model_export.errors import ExportError
from model_export.models import build_model, frozen_layers, get_weights, load_keras_model, set_weights, tensor_table
from model_export.quiet import tensorflow


def test_shapes_and_parameters(built: Callable[[str], Any]) -> None:
    assert get_weights(built("logistic")).shape == (30 * 2 + 2,)
    assert get_weights(built("mlp")).shape == (13 * 16 + 16 + 16 * 3 + 3,)
    assert get_weights(built("cnn1d")).shape == (5 * 2 * 4 + 4 + 5 * 4 * 8 + 8 + 5 * 8 * 8 + 8 + 8 * 4 + 4,)
    assert built("cnn1d")(np.zeros((3, 50, 2), np.float32)).shape == (3, 4)


def test_the_seed_alone_decides_the_weights() -> None:
    spec = {"kind": "mlp", "hidden": [8]}
    first, again, other = (get_weights(build_model(spec, (5,), 2, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    limit = np.sqrt(6 / (5 + 8))
    kernel = first[:40]
    expected = ((np.random.default_rng(3).random((5, 8)) * 2 - 1) * limit).astype(np.float32).ravel()
    np.testing.assert_array_equal(kernel, expected)
    np.testing.assert_array_equal(first[40:48], 0)


def test_weights_round_trip_through_the_table() -> None:
    model = build_model({"kind": "cnn1d", "filters": [2, 3], "kernel": 3}, (12, 1), 2, 0)
    table = tensor_table(model)
    total = table[-1]["offset"] + table[-1]["size"]
    flat = np.arange(total, dtype=np.float32)
    set_weights(model, flat)
    np.testing.assert_array_equal(get_weights(model), flat)
    for entry, variable in zip(table, model.trainable_variables):
        assert entry["name"] == variable.path
        part = flat[entry["offset"] : entry["offset"] + entry["size"]].reshape(entry["shape"])
        np.testing.assert_array_equal(variable.numpy(), part)
    with pytest.raises(ExportError, match=rf"one vector of {total} float32"):
        set_weights(model, flat[1:])
    flat[5] = np.nan
    with pytest.raises(ExportError, match="nan at position 5"):
        set_weights(model, flat)


@pytest.mark.parametrize(
    ("spec", "shape", "classes", "message"),
    [
        ({"kind": "transformer"}, (4,), 2, "accepted: cnn1d, keras, mlp"),
        ({"kind": "mlp", "hiden": [4]}, (4,), 2, "has no 'hiden'; accepted: activation, hidden"),
        ({"kind": "mlp", "hidden": 16}, (4,), 2, r"a list of layer widths"),
        ({"kind": "mlp", "hidden": [0]}, (4,), 2, "hidden holds 0"),
        ({"kind": "mlp", "hidden": [True]}, (4,), 2, "hidden holds True"),
        ({"kind": "mlp", "activation": "mish"}, (4,), 2, "'mish' is unknown"),
        ({"kind": "mlp"}, (4, 1), 2, r"an mlp takes input of shape \(features,\)"),
        ({"kind": "mlp"}, (0,), 2, "whole numbers above 0"),
        ({"kind": "mlp"}, (4,), 1, "at least 2"),
        ({"kind": "cnn1d"}, (4,), 2, r"\(samples, channels\)"),
        ({"kind": "cnn1d", "filters": []}, (40, 1), 2, "at least one convolution"),
        ({"kind": "cnn1d", "kernel": 0}, (40, 1), 2, "kernel is 0"),
        ({"kind": "cnn1d", "filters": [2, 2, 2], "pool": 8}, (40, 1), 2, "leave nothing of 40 samples"),
        ({"kind": "keras", "path": "absent.keras"}, (4,), 2, "absent.keras: no such file"),
        ({"kind": "keras"}, (4,), 2, "needs a 'path'"),
        ("mlp", (4,), 2, "a table with a 'kind'"),
    ],
)
def test_bad_specs_are_explained(spec: Any, shape: Any, classes: int, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        build_model(spec, shape, classes, 0)


class TestOwnModels:
    """.keras files as their owners save them."""

    @staticmethod
    def saved(folder: Path, *stack: Any, shape: Any = (6,)) -> str:
        tensorflow()
        import keras

        model = keras.Sequential([keras.Input(shape), *stack])
        model.save(folder / "m.keras")
        return str(folder / "m.keras")

    @pytest.mark.parametrize("ending", ["activation", "layer", "none"])
    def test_a_final_softmax_is_taken_off(self, tmp_path: Path, ending: str) -> None:
        tensorflow()
        from keras import layers, models

        stack = [
            layers.Dense(5, activation="relu"),
            layers.Dense(3, activation="softmax" if ending == "activation" else None),
        ]
        path = self.saved(tmp_path, *stack, *([layers.Softmax()] if ending == "layer" else []))
        x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
        expected = models.load_model(path).predict(x, verbose=0)
        model = build_model({"kind": "keras", "path": path}, (6,), 3, 0)
        logits = model(x).numpy().astype(np.float64)
        assert np.abs(logits.sum(1) - 1).max() > 1e-3
        if ending != "none":
            logits = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(logits, expected, atol=1e-6)

    def test_what_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        tensorflow()
        from keras import layers

        path = self.saved(tmp_path, layers.Dense(3))
        with pytest.raises(ExportError, match=r"takes input \(6,\), the task gives \(7,\)"):
            load_keras_model(path, (7,), 3)
        with pytest.raises(ExportError, match="gives 3 classes, the task has 4"):
            load_keras_model(path, (6,), 4)
        path = self.saved(tmp_path, layers.Dense(1, activation="sigmoid"))
        with pytest.raises(ExportError, match="at least 2 classes"):
            load_keras_model(path)
        path = self.saved(tmp_path, layers.Dense(2, activation="sigmoid"))
        with pytest.raises(ExportError, match="ends in sigmoid"):
            load_keras_model(path)
        path = self.saved(tmp_path, layers.GlobalAveragePooling1D(), layers.Dense(2), shape=(None, 3))
        with pytest.raises(ExportError, match="free dimension"):
            load_keras_model(path)
        (tmp_path / "m.keras").write_bytes(b"no zip")
        with pytest.raises(ExportError, match="text, and no .keras file"):
            load_keras_model(path)

    def test_layers_that_only_act_in_training_are_listed(self, tmp_path: Path) -> None:
        tensorflow()
        from keras import layers

        path = self.saved(
            tmp_path, layers.Dense(3), layers.BatchNormalization(name="bn"), layers.Dropout(0.5, name="drop")
        )
        assert frozen_layers(load_keras_model(path)) == ["bn (BatchNormalization)", "drop (Dropout)"]
