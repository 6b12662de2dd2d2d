"""A .keras file before Keras opens it: whether it is one, what it asks for, and its precision.

Opening builds every layer and runs what the layers do. What can be seen in the archive is checked first, so that a file that is
something else, damaged, claims more than a board could hold, or needs its author's code is refused in one sentence, without
TensorFlow.
"""

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from model_export.errors import ModelFileError

CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
LARGEST_CONFIG = 16 << 20
DEEPEST_CONFIG = 200
LARGEST_WEIGHTS = 1 << 30
"""Bytes: more than 33,554,432 weights in float64, with the state of an optimizer."""

LARGEST_ROW = 1 << 24
"""Values in one row of the input."""

_WIDTHS = ("units", "filters", "output_dim", "input_dim")
_NOT_BUILT = ("compile_config", "build_config")
_SAVE = "load it where it was made, and save it with Keras 3: model.save('NAME.keras')"
_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", f"HDF5, as .h5 files of Keras 2 are, under another name; {_SAVE}"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first: gunzip FILE"),
    (b"\x80\x02", "a pickle or a PyTorch file"),
    (b"\x93NUMPY", "an array of numpy"),
)
_OTHERS = {
    ".h5": f"the form of Keras 2; {_SAVE}",
    ".hdf5": f"the form of Keras 2; {_SAVE}",
    ".pb": f"a graph of TensorFlow; {_SAVE}",
    ".onnx": "ONNX; make a Keras model of it, or an int8 .tflite",
    ".pt": "PyTorch; make a Keras model of it, or an int8 .tflite",
    ".pth": "PyTorch; make a Keras model of it, or an int8 .tflite",
    ".zip": "a zip archive; unpack it, or name the .keras file in it",
}
_FLOATS = re.compile(r"(?:mixed_)?(?:b?float16|float64)")


def refuse_other_models(path: Path) -> None:
    """Raises ModelFileError for what is neither a .keras nor a .tflite by its name, with how to make one of it."""
    if path.suffix.lower() in (".keras", ".tflite") and not path.is_dir():
        return
    if path.is_dir():
        saved = (path / "saved_model.pb").is_file()
        what = f"a SavedModel; {_SAVE}" if saved else "a folder; name a .keras or a .tflite file"
        raise ModelFileError(f"{path}: {what}")
    if path.name.endswith(".weights.h5"):
        raise ModelFileError(f"{path}: weights without their model; save the whole model: model.save('NAME.keras')")
    what = _OTHERS.get(path.suffix.lower(), "")
    raise ModelFileError(f"{path}: {what + '; ' if what else ''}accepted are a .keras and a .tflite file")


def check_keras_file(path: Path) -> Dict[str, Any]:
    """The configuration of the model in a .keras file; neither Keras nor TensorFlow is imported.

    Raises ModelFileError for what is no such file, is damaged or too large, or holds layers or functions whose code it lacks.
    """
    if path.is_dir():
        refuse_other_models(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            config = _config(path, archive)
            weights = _weights(path, archive)
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{path}: {_no_archive(path)}") from error
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        raise ModelFileError(f"{path}: damaged: {error}; copy it again") from error
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if damaged is not None:
        raise ModelFileError(f"{path}: damaged: {damaged} differs from its checksum; copy it again")
    _check_code(path, config)
    _check_sizes(path, config, weights)
    return config


def outputs_of(config: Mapping[str, Any]) -> Optional[int]:
    """Values a model puts out, where its last layer says it; None where only Keras knows."""
    inside = config.get("config")
    layers = inside.get("layers") if isinstance(inside, dict) else None
    named = inside.get("output_layers") if isinstance(inside, dict) else None
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        return None
    last = layers[-1]
    if config.get("class_name") != "Sequential":
        name = _first_text(named)
        last = next((layer for layer in layers if layer.get("name") == name), {}) if name else {}
    said = last.get("config")
    units = said.get("units") if last.get("class_name") == "Dense" and isinstance(said, dict) else None
    return units if isinstance(units, int) and not isinstance(units, bool) else None


def row_shape(config: Mapping[str, Any]) -> Optional[List[Optional[int]]]:
    """Of a row of a model's one input, None standing for a free dimension; None where only Keras knows it."""
    inside = config.get("config")
    layers = inside.get("layers") if isinstance(inside, dict) else None
    inputs = [each for each in layers if _kind(each) == "InputLayer"] if isinstance(layers, list) else []
    described = inputs[0].get("config") if len(inputs) == 1 else None
    shape = described.get("batch_shape") if isinstance(described, dict) else None
    if not isinstance(shape, list) or len(shape) < 2:
        return None
    sizes = [None if isinstance(size, bool) or not isinstance(size, int) else size for size in shape[1:]]
    return sizes


def _kind(layer: Any) -> Any:
    return layer.get("class_name") if isinstance(layer, dict) else None


def _first_text(value: Any) -> str:
    """Of ["name", 0, 0], alone or in a list of one such."""
    while isinstance(value, list) and value:
        if isinstance(value[0], list) and len(value) > 1:
            return ""
        value = value[0]
    return value if isinstance(value, str) else ""


def in_float32(config: Mapping[str, Any]) -> Tuple[Dict[str, Any], List[str]]:
    """(the configuration with every float in float32, the other precisions it had, sorted).

    Raises ModelFileError for layers that Keras quantized: their weights are no floats any more.
    """
    found: List[str] = []

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            if value.get("class_name") in ("QuantizedDTypePolicy", "QuantizedFloat8DTypePolicy"):
                raise ModelFileError(
                    "Keras has quantized layers of it; save the model before model.quantize(): the export quantizes it for boards"
                )
            inside = {k: walk(v, k) for k, v in value.items() if k not in _NOT_BUILT or k == "build_config"}
            if value.get("class_name") == "DTypePolicy" and isinstance(inside.get("config"), dict):
                inside["config"] = {**inside["config"], "name": walk(inside["config"].get("name"), "dtype")}
            return inside
        if isinstance(value, list):
            return [walk(each, key) for each in value]
        if key == "dtype" and isinstance(value, str) and _FLOATS.fullmatch(value):
            found.append(value)
            return "float32"
        return value

    return walk(dict(config)), sorted(set(found))


def write_with(path: Path, config: Mapping[str, Any], out: Path) -> None:
    """A copy of a .keras file, with another configuration."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, json.dumps(config) if name == CONFIG else archive.read(name))


def _config(path: Path, archive: zipfile.ZipFile) -> Dict[str, Any]:
    if CONFIG not in archive.namelist():
        held = ", ".join(archive.namelist()[:3]) or "nothing"
        raise ModelFileError(
            f"{path}: a zip archive without {CONFIG} (it holds {held}); accepted is a .keras file of Keras 3"
        )
    size = archive.getinfo(CONFIG).file_size
    if size > LARGEST_CONFIG:
        raise ModelFileError(f"{path}: {CONFIG} claims {size:,} bytes; at most {LARGEST_CONFIG:,} are accepted")
    try:
        config = json.loads(archive.read(CONFIG).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: {CONFIG} in it is not JSON: {error}; save or copy the model again") from error
    if _depth(config) > DEEPEST_CONFIG:
        raise ModelFileError(
            f"{path}: {CONFIG} in it is nested more than {DEEPEST_CONFIG} deep; save or copy the model again"
        )
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ModelFileError(f"{path}: {CONFIG} in it describes no model; save or copy the model again")
    return config


def _depth(value: Any) -> int:
    """How many lists and objects are in each other, found without recursion."""
    deepest, level = 0, [value]
    while level:
        inside = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [each for held in inside for each in held]
        deepest += bool(inside)
    return deepest


def _weights(path: Path, archive: zipfile.ZipFile) -> int:
    """Bytes of the weights; all that is in the file may hold no more than a board's model could come from."""
    total = sum(info.file_size for info in archive.infolist())
    if total > LARGEST_WEIGHTS:
        raise ModelFileError(
            f"{path}: claims {total:,} bytes unpacked; at most {LARGEST_WEIGHTS:,} are accepted, and boards hold a few million"
        )
    if WEIGHTS not in archive.namelist():
        raise ModelFileError(f"{path}: has no {WEIGHTS}, so no weights; save the whole model: model.save('NAME.keras')")
    with archive.open(WEIGHTS) as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise ModelFileError(f"{path}: {WEIGHTS} in it is not HDF5: damaged; save or copy the model again")
    return archive.getinfo(WEIGHTS).file_size


def _no_archive(path: Path) -> str:
    head = path.open("rb").read(512)
    if not head:
        return "the file is empty"
    if head.startswith(b"PK"):
        return "the archive is incomplete: the end of the file is missing; copy it again"
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return what
    if head[4:8] == b"TFL3":
        return "a .tflite model under another name; rename it to NAME.tflite"
    text = not any(byte < 9 for byte in head)
    return f"{'text' if text else 'not a zip archive'}, and no .keras file, which is a zip archive that Keras 3 saves"


def objects(value: Any) -> Iterator[Dict[str, Any]]:
    """Every described object in a configuration, outermost first; losses and optimizers are not built, and left out."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value
        for key, inside in value.items():
            if key not in _NOT_BUILT:
                yield from objects(inside)
    elif isinstance(value, list):
        for each in value:
            yield from objects(each)


def _name(described: Mapping[str, Any]) -> str:
    config = described.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return repr(name or described["class_name"])


def _check_code(path: Path, config: Mapping[str, Any]) -> None:
    """Raises ModelFileError where an author's Python code would be needed: it is not in the file, or not run."""
    for described in objects(config):
        kind, inside = described["class_name"], described.get("config")
        if kind == "Lambda":
            raise ModelFileError(
                f"{path}: layer {_name(described)} (Lambda) holds Python code, which is not run; use layers of Keras, such as "
                "Rescaling or Activation, instead"
            )
        if kind == "function" and ">" in str(inside):
            raise ModelFileError(
                f"{path}: uses the function {str(inside).rpartition('>')[2]!r}, whose code is not in the file; use Keras's own"
            )
        if ">" in str(described.get("registered_name")):
            if described is config:
                raise ModelFileError(
                    f"{path}: a model of the class {kind!r}, whose code is not in the file; build it of layers of Keras with "
                    "keras.Sequential or keras.Model(inputs, outputs)"
                )
            raise ModelFileError(
                f"{path}: layer {_name(described)} is of the class {kind!r}, whose code is not in the file; use layers of Keras"
            )


def _check_sizes(path: Path, config: Mapping[str, Any], weights: int) -> None:
    """Raises ModelFileError for layers wider than the weights in the file, and for rows that no board could hold."""
    for described in objects(config):
        inside = described.get("config")
        if not isinstance(inside, dict):
            continue
        for key in _WIDTHS:
            width = inside.get(key)
            if isinstance(width, int) and width > weights:
                raise ModelFileError(
                    f"{path}: layer {_name(described)} has {key} = {width:,}, and the file {weights:,} bytes of weights: damaged"
                )
        row = row_size(inside.get("batch_shape"))
        if row is not None and row > LARGEST_ROW:
            raise ModelFileError(
                f"{path}: takes rows of {row:,} values, at most {LARGEST_ROW:,} are accepted, and boards hold far fewer"
            )


def row_size(batch_shape: Any) -> Optional[int]:
    """How many values a row of that shape has, without free dimensions; None for what is no shape."""
    if not isinstance(batch_shape, (list, tuple)):
        return None
    size = 1
    for dimension in batch_shape[1:]:
        size *= dimension if isinstance(dimension, int) else 1
    return size
