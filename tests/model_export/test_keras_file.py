"""What people name .keras: models in another precision, and files that are none, each with one sentence and exit code 2."""

import json
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
import pytest

from model_export.errors import ModelFileError
from model_export.keras_file import LARGEST_WEIGHTS, check_keras_file, in_float32, row_size
from model_export.models import load_keras_model, load_whole_model, precision_note
from orchestrator.cli.main import main

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(4096)


def layer(kind: str, **config: Any) -> Dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": kind.lower(), **config},
        "registered_name": None,
    }


def model(*layers: Dict[str, Any], **more: Any) -> Dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"layers": list(layers)},
        "registered_name": None,
        **more,
    }


GOOD = model(layer("InputLayer", batch_shape=[None, 4], dtype="float32"), layer("Dense", units=3, activation="relu"))


def archive(path: Path, **parts: Optional[Any]) -> Path:
    """A .keras file with one stored part in place of a sound one, None to leave it out."""
    sound = {"metadata_json": {"keras_version": "3.0.0"}, "config_json": GOOD, "model_weights_h5": HDF5}
    with zipfile.ZipFile(path, "w") as file:
        for name, part in {**sound, **parts}.items():
            if part is not None:
                stem, _, suffix = name.rpartition("_")
                file.writestr(
                    f"{stem.replace('_', '.')}.{suffix}", part if isinstance(part, bytes) else json.dumps(part)
                )
    return path


def custom(kind: str) -> Dict[str, Any]:
    return {**layer(kind), "module": None, "registered_name": f"mine>{kind}"}


FUNCTION = {"module": "builtins", "class_name": "function", "config": "mine>act", "registered_name": "function"}
CONFIGS: Dict[str, Tuple[Any, str]] = {
    "subclassed": (
        {**custom("Net"), "registered_name": "Custom>Net"},
        "a model of the class 'Net', whose code is not in",
    ),
    "own layer": (model(custom("Mine")), "layer 'mine' is of the class 'Mine', whose code is not in the file"),
    "own layer inside another": (model(layer("TimeDistributed", layer=custom("Mine"))), "of the class 'Mine'"),
    "own function": (model(layer("Dense", units=3, activation=FUNCTION)), "uses the function 'act', whose code"),
    "lambda": (model(layer("Lambda")), r"layer 'lambda' \(Lambda\) holds Python code, which is not run"),
    "wide": (model(layer("Dense", units=2**29)), "units = 536,870,912, and the file 4,104 bytes of weights"),
    "long rows": (model(layer("InputLayer", batch_shape=[None, 1 << 20, 99])), "rows of 103,809,024 values"),
    "no model": ([], "describes no model"),
    "not JSON": (b"{", "config.json in it is not JSON"),
    "not UTF-8": (b'{"class_name": "\xff"}', "config.json in it is not JSON"),
    "nested so that others stumble": (
        b'{"class_name": "Sequential", "config": ' + b"[" * 600 + b"]" * 600 + b"}",
        "more than 200 deep",
    ),
    "nested deeply": (b"[" * 100_000, "config.json in it is not JSON"),
    "none": (None, "a zip archive without config.json"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_configuration_that_cannot_be_used_is_one_sentence(tmp_path: Path, case: str) -> None:
    config, reason = CONFIGS[case]
    path = archive(tmp_path / "m.keras", config_json=config)
    with pytest.raises(ModelFileError, match=reason) as caught:
        check_keras_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def flipped(path: Path) -> None:
    content = bytearray(archive(path).read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def claims_much(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps(GOOD))
        with file.open("model.weights.h5", "w", force_zip64=True) as part:
            part.write(HDF5)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the last entry of the directory: 24 bytes on is the size unpacked
    content[at + 24 : at + 28] = (LARGEST_WEIGHTS + 1).to_bytes(4, "little")
    path.write_bytes(content)


FILES: Dict[str, Any] = {
    "text.keras": (lambda p: p.write_text("hello\n"), "text, and no .keras file, which is a zip archive"),
    "empty.keras": (lambda p: p.write_bytes(b""), "the file is empty"),
    "cut.keras": (lambda p: p.write_bytes(archive(p).read_bytes()[:2000]), "the end of the file is missing; copy it"),
    "flipped.keras": (flipped, "damaged: model.weights.h5 differs from its checksum"),
    "old.keras": (lambda p: p.write_bytes(HDF5), "HDF5, as .h5 files of Keras 2 are, under another name; load it"),
    "board.keras": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), "a .tflite model under another name"),
    "random.keras": (lambda p: p.write_bytes(bytes(range(200))), "not a zip archive, and no .keras file"),
    "bare.keras": (lambda p: archive(p, model_weights_h5=None), "has no model.weights.h5, so no weights"),
    "torn.keras": (lambda p: archive(p, model_weights_h5=b"not HDF5"), "model.weights.h5 in it is not HDF5"),
    "huge.keras": (claims_much, "unpacked; at most 1,073,741,824 are accepted"),
    "m.h5": (lambda p: p.write_bytes(HDF5), "the form of Keras 2; load it where it was made, and save it with Keras 3"),
    "m.weights.h5": (lambda p: p.write_bytes(HDF5), "weights without their model; save the whole model"),
    "m.onnx": (lambda p: p.write_bytes(b"x"), "ONNX; make a Keras model of it"),
    "m.txt": (lambda p: p.write_bytes(b"x"), "accepted are a .keras and a .tflite file"),
    "folder.keras": (lambda p: p.mkdir(), "a folder; name a .keras or a .tflite file"),
    "saved": (
        lambda p: (p.mkdir(), (p / "saved_model.pb").write_bytes(b"")),
        "a SavedModel; load it where it was made",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_says_what_it_is_and_what_to_do(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user types it, and without the seconds that TensorFlow takes to start."""
    monkeypatch.chdir(tmp_path)
    make, reason = FILES[name]
    make(Path(name))
    np.save("x.npy", np.zeros((2, 4), np.float32))
    assert main(["model", "export", name, "--representative", "x.npy", "--out", "b"]) == 2
    said = capsys.readouterr().err
    assert f"edgeward: {name}: " in said
    assert reason in said
    assert said.count("\n") == 1
    assert not Path("b").exists()


def test_a_sound_file_passes(tmp_path: Path) -> None:
    losses = {"compile_config": {"loss": custom("Loss")}}  # which nobody loads
    assert check_keras_file(archive(tmp_path / "m.keras", config_json={**GOOD, **losses}))["class_name"] == "Sequential"
    assert in_float32(GOOD) == (GOOD, [])
    assert (row_size([None, 3, None, 4]), row_size("x")) == (12, None)


def test_layers_that_keras_quantized_are_refused() -> None:
    policy = {"module": "keras.dtype_policies", "class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}
    with pytest.raises(ModelFileError, match="save the model before model.quantize"):
        in_float32(model(layer("Dense", units=3, dtype=policy)))


def saved(path: Path, precision: str, inputs: str) -> Any:
    import keras

    keras.utils.set_random_seed(5)
    policy = {"dtype": precision}
    nested = keras.Sequential([keras.Input((16, 2)), keras.layers.Conv1D(4, 3, activation="relu", **policy)])
    layers = [nested, keras.layers.BatchNormalization(**policy), keras.layers.GlobalAveragePooling1D(**policy)]
    made = keras.Sequential(
        [keras.Input((16, 2), dtype=inputs), *layers, keras.layers.Dense(3, name="logits", **policy)]
    )
    made.save(path)
    return made


@pytest.mark.parametrize(
    ("precision", "inputs", "tolerance", "weights"),
    [
        ("float16", "float16", 0.02, "exact in float32"),
        ("bfloat16", "float32", 0.1, "exact in float32"),
        ("mixed_float16", "float32", 0.02, "exact in float32"),
        ("mixed_bfloat16", "float32", 0.1, "exact in float32"),
        ("float64", "float64", 1e-5, "rounded to float32"),
    ],
)
def test_another_precision_is_read_as_float32_and_said(
    tmp_path: Path, precision: str, inputs: str, tolerance: float, weights: str
) -> None:
    path = tmp_path / "m.keras"
    made = saved(path, precision, inputs)
    rows = np.random.default_rng(1).normal(size=(8, 16, 2)).astype(np.float32)
    read = load_whole_model(str(path))
    assert {variable.dtype for variable in read.variables} == {"float32"}
    assert str(read.outputs[0].dtype) == "float32"
    for before, after in zip(made.variables, read.variables):
        assert np.array_equal(np.asarray(before).astype(np.float32), np.asarray(after))
    assert np.allclose(np.asarray(made(rows)).astype(np.float32), np.asarray(read(rows)), atol=tolerance)
    assert precision in precision_note(str(path))
    assert weights in precision_note(str(path))
    assert load_keras_model(str(path), (16, 2), 3).outputs[0].shape == (None, 3)  # as a task trains it


def test_a_model_in_float16_becomes_a_bundle_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "m.keras", "float16", "float16")
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(32, 16, 2)).astype(np.float32))
    given = [str(tmp_path / "m.keras"), "--representative", str(tmp_path / "x.npy"), "--out", str(tmp_path / "b")]
    assert main(["model", "export", *given, "--json"]) == 0
    said = capsys.readouterr()
    assert "the file computes in float16; it was exported in float32: its weights are exact in float32" in said.err
    assert "computes in float16" in json.loads(said.out)["origin"]["int8_ranges"]


def unusable() -> Dict[str, Callable[[], Any]]:
    import keras

    layers, entry = keras.layers, keras.Input
    return {
        "takes int32; accepted is a float32 input": lambda: [entry((4,), dtype="int32"), layers.Embedding(10, 3)],
        "takes string; accepted is a float32": lambda: [
            entry((1,), dtype="string"),
            layers.StringLookup(vocabulary=["a"]),
        ],
        "one number without a dimension": lambda: [entry(()), layers.Reshape((1,)), layers.Dense(2)],
        "has no layer, or was never built": lambda: [layers.Dense(2)],
        "has a free dimension": lambda: [entry((None, 2)), layers.GlobalAveragePooling1D()],
    }


def test_inputs_that_no_board_can_be_given(tmp_path: Path) -> None:
    import keras

    for reason, made in unusable().items():
        keras.Sequential(made()).save(tmp_path / "m.keras")
        with pytest.raises(ModelFileError, match=reason):
            load_whole_model(str(tmp_path / "m.keras"))
