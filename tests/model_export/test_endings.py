"""A .keras file is exported as it ends: nothing is appended but a softmax that was asked for."""

import json
import random
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import pytest

from model_export.client import run_worker
from model_export.errors import ExportError
from model_export.models import check_softmax, gives_logits, load_whole_model
from model_export.quantize import check_computable
from model_export.quiet import tensorflow
from model_export.tflm import TflmModel

X = np.random.default_rng(0).standard_normal((120, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def the_same_weights() -> None:
    """Keras draws a layer's seed when it is made, which is before its model is."""
    random.seed(3)


def stack(*layers: Any, shape: Any = (6,)) -> Any:
    tensorflow()
    import keras

    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(shape), *layers])


def dense(units: int, activation: Optional[str] = None, name: Optional[str] = None) -> Any:
    import keras

    return keras.layers.Dense(units, activation=activation, name=name)


def exported(folder: Path, model: Any, **more: Any) -> Dict[str, Any]:
    """Manifest, operators, what TFLM gives for X in real values, and what Keras gives."""
    model.save(folder / "m.keras")
    np.save(folder / "x.npy", X)
    spec = {"model": {"kind": "keras", "path": str(folder / "m.keras")}, "name": "m", **more}
    lines: List[str] = []
    run_worker("bundle", {**spec, "representative": str(folder / "x.npy")}, folder / "b", lines.append)
    tflm = TflmModel((folder / "b" / "model.tflite").read_bytes())
    return {
        "lines": lines,
        "manifest": json.loads((folder / "b" / "manifest.json").read_text()),
        "operators": [op.code for op in tflm.operators],
        "found": tflm.output.dequantize(tflm.run(tflm.input.quantize(X))),
        "expected": model.predict(X, verbose=0),
    }


@pytest.mark.parametrize("units", [1, 3, 6])
def test_a_regression_keeps_its_real_values(tmp_path: Path, units: int) -> None:
    """Six outputs of six inputs: what an autoencoder has."""
    tensorflow()
    made = exported(tmp_path, stack(dense(8, "relu"), dense(units)))
    assert made["operators"] == ["FULLY_CONNECTED", "FULLY_CONNECTED"]
    error = np.abs(made["found"] - made["expected"])
    assert error.max() < 0.1 * np.abs(made["expected"]).max()
    assert made["expected"].min() < -0.1, "a probability would not be this"
    output = made["manifest"]["output"]
    assert output["scale"] * (127 - output["zero_point"]) >= made["expected"].max() * 0.9
    assert made["manifest"]["origin"]["output"] == "real values: scale * (int8 - zero_point)"


def test_scores_of_several_labels_stay_sigmoids(tmp_path: Path) -> None:
    tensorflow()
    made = exported(tmp_path, stack(dense(8, "relu"), dense(4, "sigmoid")), labels=["a", "b", "c", "d"])
    assert made["operators"][-1] == "LOGISTIC"
    assert "SOFTMAX" not in made["operators"]
    assert np.abs(made["found"] - made["expected"]).max() < 0.06


def test_a_softmax_of_the_models_own_stays_one(tmp_path: Path) -> None:
    tensorflow()
    made = exported(tmp_path, stack(dense(3, "softmax")), labels=["a", "b", "c"])
    assert made["operators"].count("SOFTMAX") == 1
    assert np.abs(made["found"] - made["expected"]).max() < 0.06


def test_class_names_append_nothing_and_the_export_says_what_would(tmp_path: Path) -> None:
    tensorflow()
    made = exported(tmp_path, stack(dense(3, name="logits")), labels=["a", "b", "c"])
    assert made["operators"] == ["FULLY_CONNECTED"]
    assert np.abs(made["found"] - made["expected"]).max() < 0.1 * np.abs(made["expected"]).max()
    assert any("the outputs are logits" in line and "--softmax" in line for line in made["lines"])


def test_a_softmax_asked_for_is_appended_and_the_bundle_says_so(tmp_path: Path) -> None:
    tensorflow()
    made = exported(tmp_path, stack(dense(3)), softmax=True)
    assert made["operators"][-1] == "SOFTMAX"
    assert "a softmax was appended, as asked" in made["manifest"]["origin"]["output"]


def cases() -> List[Any]:
    return [
        ("dense", lambda: [dense(3)], True),
        ("one value", lambda: [dense(1, name="logits")], False),
        ("own activation", lambda: [dense(3, "softmax")], False),
        ("not a dense layer", lambda: [dense(3), keras_layer("ReLU")], False),
        ("nested", lambda: [stack(dense(3, "softmax"))], False),
        ("nested logits", lambda: [stack(dense(3, name="logits"))], True),
    ]


def keras_layer(name: str) -> Any:
    import keras

    return getattr(keras.layers, name)()


@pytest.mark.parametrize(("what", "layers", "logits"), cases())
def test_what_looks_like_logits(what: str, layers: Any, logits: bool) -> None:
    tensorflow()
    assert gives_logits(stack(*layers())) is logits


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (lambda: [dense(3, "softmax")], "ends in softmax"),
        (lambda: [dense(2, "sigmoid")], "ends in sigmoid"),
        (lambda: [dense(1)], r"gives \(1,\) for each row"),
    ],
)
def test_a_softmax_that_cannot_be_right_is_refused(layers: Any, message: str) -> None:
    tensorflow()
    with pytest.raises(ExportError, match=f"a softmax was asked for, but the model {message}"):
        check_softmax(stack(*layers()))


def test_several_inputs_or_outputs_of_a_file_are_named(tmp_path: Path) -> None:
    tensorflow()
    import keras

    one, two = keras.Input((3,), name="vitals"), keras.Input((2,), name="labs")
    joined = keras.layers.Dense(2, name="risk")(keras.layers.Concatenate()([one, two]))
    keras.Model([one, two], joined).save(tmp_path / "two.keras")
    with pytest.raises(ExportError, match=r"has 2 inputs \(vitals, labs\) and 1 output \(.*\); accepted is one each"):
        load_whole_model(str(tmp_path / "two.keras"))
    keras.Model(one, [one * 2.0, one + 1.0]).save(tmp_path / "out.keras")
    with pytest.raises(ExportError, match=r"has 1 input \(vitals\) and 2 outputs"):
        load_whole_model(str(tmp_path / "out.keras"))


def test_figures_are_of_classifiers_only(tmp_path: Path) -> None:
    tensorflow()
    np.save(tmp_path / "y.npy", np.zeros(len(X), int))
    evaluation = {"x": str(tmp_path / "x.npy"), "y": str(tmp_path / "y.npy")}
    with pytest.raises(ExportError, match="an evaluation is of classifiers that end in a softmax"):
        exported(tmp_path, stack(dense(3)), evaluation=evaluation)
    made = exported(tmp_path, stack(dense(3, "softmax")), evaluation=evaluation)
    assert set(made["manifest"]["accuracy"]) == {"float", "int8", "tflm"}
    assert made["manifest"]["accuracy"]["float"]["accuracy"] == float((made["expected"].argmax(1) == 0).mean())


def test_one_output_may_have_a_name_of_its_own() -> None:
    """keras.Model(inputs, {"risk": ...}) gives a dict: its rows are checked like any others."""
    tensorflow()
    import keras

    one = keras.Input((3,))
    named = keras.Model(one, {"risk": keras.layers.Dense(2)(one)})
    check_computable(named, np.ones((4, 3), np.float32))
    with pytest.raises(ExportError, match="row 1"):
        check_computable(named, np.array([[0, 0, 0], [3e38, 3e38, 3e38]], np.float32))
