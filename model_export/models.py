"""Keras 3 models from a small spec, a builder for each kind; and their weights as one flat float32 vector.

A spec is a dict:

- `{"kind": "mlp", "hidden": [16], "activation": "relu"}` for input shape `(features,)`; an empty `hidden` is logistic
  regression;
- `{"kind": "cnn1d", "filters": [16, 32], "kernel": 5, "pool": 2, "dense": [], "activation": "relu"}` for
  `(samples, channels)`;
- `{"kind": "keras", "path": "m.keras"}` for a model of the user's own.

For training every model gives logits of shape `(batch, classes)`; softmax belongs to the loss and to the exported int8 model.
A user's model that is only exported keeps its own ending (load_whole_model).
"""

import difflib
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from model_export.errors import ExportError, ModelFileError
from model_export.keras_file import check_keras_file, in_float32, write_with
from model_export.quiet import quiet_stderr, said_by, tensorflow

ACTIVATIONS = ("relu", "relu6", "tanh", "sigmoid", "linear")
DEFAULTS: Dict[str, Dict[str, Any]] = {
    "mlp": {"hidden": [16], "activation": "relu"},
    "cnn1d": {"filters": [16, 32], "kernel": 5, "pool": 2, "dense": [], "activation": "relu"},
    "keras": {"path": None},
}


def build_model(spec: Mapping[str, Any], input_shape: Sequence[int], classes: int, seed: int, least: int = 2) -> Any:
    """A keras.Model from `input_shape` (without the batch) to `classes` logits, float32; least: so many there must be.

    Kernels are drawn from numpy's PCG64 with `seed` (Glorot and Bengio 2010, eq. 16: uniform with limit
    sqrt(6 / (fan_in + fan_out))), so the same seed gives the same weights on every machine. Biases start at zero. A model of kind
    `keras` keeps the weights in its file. Raises ExportError for a spec or a model that cannot be used.
    """
    spec = _checked_spec(spec)
    shape = _checked_shape(input_shape)
    if not _is_int(classes) or classes < least:
        what = "a classifier" if least > 1 else "a model"
        raise ExportError(f"classes is {classes!r}; {what} needs a whole number of at least {least}")
    tensorflow()
    if spec["kind"] == "keras":
        return load_keras_model(spec["path"], shape, classes)
    model = _mlp(spec, shape, classes) if spec["kind"] == "mlp" else _cnn1d(spec, shape, classes)
    _initialise(model, seed)
    return model


def check_spec(spec: Mapping[str, Any], input_shape: Sequence[int], classes: int) -> int:
    """How many weights the model has, 0 for one that only its file tells of; nothing is built and TensorFlow not needed.

    Raises ExportError for a spec that `build_model` would refuse.
    """
    spec = _checked_spec(spec)
    shape = _checked_shape(input_shape)
    if spec["kind"] == "mlp":
        _check_rank("mlp", shape)
        return _dense_weights([*shape, *spec["hidden"], classes])
    if spec["kind"] == "cnn1d":
        _check_rank("cnn1d", shape)
        _pools(spec, shape)
        widths = [shape[1], *spec["filters"]]
        convolutions = sum(before * after * spec["kernel"] + after for before, after in zip(widths, widths[1:]))
        return int(convolutions) + _dense_weights([widths[-1], *spec["dense"], classes])
    return 0


def _dense_weights(widths: Sequence[int]) -> int:
    return int(sum(before * after + after for before, after in zip(widths, widths[1:])))


def load_keras_model(path: str, input_shape: Sequence[int] = (), classes: int = 0) -> Any:
    """A user's .keras model, cut to logits, with its own weights.

    `input_shape` and `classes`, where given, must match the file's. A final softmax (an activation or a layer) is
    removed. Other precisions are read as float32 (precision_note). Raises ExportError for a missing or unreadable file, several
    inputs or outputs, free dimensions, or an input that is not of floats.
    """
    return _as_logits(_load(path), str(path), tuple(input_shape), classes)


def load_whole_model(path: str) -> Any:
    """A user's .keras model with every layer it has, for export as it is. Raises ExportError as load_keras_model does."""
    model = _load(path)
    _check_edges(model, str(path))
    return model


def ending(model: Any) -> Tuple[Any, str]:
    """The layer that makes the output, inside nested models too, and its activation: 'linear' where it has none."""
    import keras

    layer = model.outputs[0]._keras_history.operation
    while isinstance(layer, keras.Model) and layer.outputs:
        layer = layer.outputs[0]._keras_history.operation
    if isinstance(layer, keras.layers.Softmax):
        return layer, "softmax"
    return layer, getattr(getattr(layer, "activation", None), "__name__", "linear")


def check_softmax(model: Any) -> None:
    """Raises ExportError where a softmax was asked for and cannot be right: it belongs to two or more logits."""
    _, activation = ending(model)
    shape = tuple(model.outputs[0].shape[1:])
    if activation != "linear" or len(shape) != 1 or shape[0] is None or shape[0] < 2:
        what = f"ends in {activation}" if activation != "linear" else f"gives {shape} for each row"
        raise ExportError(f"a softmax was asked for, but the model {what}; it belongs to two or more logits")


def gives_logits(model: Any) -> bool:
    """Whether the outputs look like a classifier's before its softmax: two or more, straight from a Dense layer."""
    import keras

    layer, activation = ending(model)
    shape = tuple(model.outputs[0].shape[1:])
    several = len(shape) == 1 and shape[0] is not None and shape[0] >= 2
    return several and activation == "linear" and isinstance(layer, keras.layers.Dense)


def get_weights(model: Any) -> "np.ndarray":
    """All trainable variables in order as one float32 vector of shape (parameters,)."""
    parts = [np.asarray(variable.numpy(), np.float32).ravel() for variable in model.trainable_variables]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def set_weights(model: Any, flat: "np.ndarray") -> None:
    """The inverse of get_weights. Raises ExportError for a wrong length or values that are not finite."""
    table = tensor_table(model)
    total = sum(entry["size"] for entry in table)
    flat = np.asarray(flat)
    if flat.shape != (total,):
        raise ExportError(f"weights have shape {flat.shape}; this model takes one vector of {total} float32 values")
    if not np.isfinite(flat).all():
        bad = int(np.flatnonzero(~np.isfinite(flat))[0])
        raise ExportError(f"weights hold {flat[bad]} at position {bad}; every value must be finite")
    for variable, entry in zip(model.trainable_variables, table):
        part = flat[entry["offset"] : entry["offset"] + entry["size"]]
        variable.assign(part.astype(np.float32).reshape(entry["shape"]))


def tensor_table(model: Any) -> List[Dict[str, Any]]:
    """Where each trainable tensor lies in the flat vector: [{name, shape, offset, size}], in float32 elements."""
    table, offset = [], 0
    for variable in model.trainable_variables:
        size = int(np.prod(variable.shape))
        table.append({"name": variable.path, "shape": [int(n) for n in variable.shape], "offset": offset, "size": size})
        offset += size
    return table


def output_layer_sizes(model: Any) -> Dict[str, int]:
    """How many of the last values of the flat vector are the output layer's: {intercept, head}.

    Both are 0 unless the logits come straight from a Dense layer with a bias, whose tensors are the last of the vector.
    """
    import keras

    variables = model.trainable_variables
    layer = model.outputs[0]._keras_history.operation
    nothing = {"intercept": 0, "head": 0}
    if not isinstance(layer, keras.layers.Dense) or not layer.use_bias or len(variables) < 2:
        return nothing
    if variables[-2] is not layer.kernel or variables[-1] is not layer.bias:
        return nothing
    intercept = int(np.prod(layer.bias.shape))
    return {"intercept": intercept, "head": intercept + int(np.prod(layer.kernel.shape))}


def frozen_layers(model: Any) -> List[str]:
    """Names of layers that behave differently while training; a training graph runs them as for inference."""
    names = []
    for layer in model._flatten_layers(include_self=False, recursive=True):
        kind = type(layer).__name__
        if (
            kind == "BatchNormalization"
            or "Dropout" in kind
            or kind.startswith("Random")
            or kind.startswith("Gaussian")
        ):
            names.append(f"{layer.name} ({kind})")
    return names


def _mlp(spec: Mapping[str, Any], shape: Tuple[int, ...], classes: int) -> Any:
    import keras

    _check_rank("mlp", shape)
    layers: List[Any] = [keras.Input(shape, name="x")]
    layers += [
        keras.layers.Dense(units, activation=spec["activation"], name=f"hidden{i}")
        for i, units in enumerate(spec["hidden"])
    ]
    layers.append(keras.layers.Dense(classes, name="logits"))
    return keras.Sequential(layers, name="mlp")


def _cnn1d(spec: Mapping[str, Any], shape: Tuple[int, ...], classes: int) -> Any:
    import keras

    _check_rank("cnn1d", shape)
    pools = _pools(spec, shape)
    layers: List[Any] = [keras.Input(shape, name="x")]
    for i, filters in enumerate(spec["filters"]):
        layers.append(
            keras.layers.Conv1D(filters, spec["kernel"], padding="same", activation=spec["activation"], name=f"conv{i}")
        )
        if i < pools and spec["pool"] > 1:
            layers.append(keras.layers.MaxPooling1D(spec["pool"], name=f"pool{i}"))
    layers.append(keras.layers.GlobalAveragePooling1D(name="mean"))
    layers += [
        keras.layers.Dense(units, activation=spec["activation"], name=f"hidden{i}")
        for i, units in enumerate(spec["dense"])
    ]
    layers.append(keras.layers.Dense(classes, name="logits"))
    return keras.Sequential(layers, name="cnn1d")


def _check_rank(kind: str, shape: Tuple[int, ...]) -> None:
    if kind == "mlp" and len(shape) != 1:
        raise ExportError(f"an mlp takes input of shape (features,), not {shape}")
    if kind == "cnn1d" and len(shape) != 2:
        raise ExportError(f"a cnn1d takes input of shape (samples, channels), not {shape}")


def _pools(spec: Mapping[str, Any], shape: Tuple[int, ...]) -> int:
    """How many pools a cnn1d has; ExportError where they leave nothing of the signal."""
    pools = max(0, len(spec["filters"]) - 1)
    if spec["pool"] > 1 and shape[0] // spec["pool"] ** pools < 1:
        raise ExportError(
            f"{pools} pools of {spec['pool']} leave nothing of {shape[0]} samples; use fewer filters or a smaller pool"
        )
    return pools


def _initialise(model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) < 2:
            variable.assign(np.zeros(shape, np.float32))
            continue
        receptive = int(np.prod(shape[:-2]))
        limit = np.sqrt(6.0 / (receptive * (shape[-2] + shape[-1])))
        variable.assign(((rng.random(shape) * 2.0 - 1.0) * limit).astype(np.float32))


def _load(path: str) -> Any:
    """The model in a file, in float32 whatever it was saved in."""
    file = Path(path)
    config, others = _float32_config(file)
    tensorflow()
    import keras

    try:
        with tempfile.TemporaryDirectory(prefix="edgeward-") as folder, quiet_stderr():
            if others:
                copy = Path(folder) / "model.keras"
                write_with(file, config, copy)
            model = keras.models.load_model(copy if others else file, compile=False)
    except Exception as error:  # Keras raises whatever its layers raise
        raise ModelFileError(
            f"{path}: Keras {keras.__version__} cannot load this model ({type(error).__name__}: {reason_of(error)}); "
            "accepted is a .keras file saved by Keras 3 without custom layers"
        ) from error
    if not isinstance(model, keras.Model):
        raise ModelFileError(f"{path}: holds a {type(model).__name__}, not a Keras model")
    return model


def precision_note(path: str) -> str:
    """What became of a file's precision, in words for people: empty where all of it is float32 already."""
    others = _float32_config(Path(path))[1]
    if not others:
        return ""
    exact = "rounded to float32" if "float64" in others else "exact in float32"
    return f"the file computes in {', '.join(others)}; it was exported in float32: its weights are {exact}"


def _float32_config(file: Path) -> Tuple[Dict[str, Any], List[str]]:
    config = check_keras_file(file)
    try:
        return in_float32(config)
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error}") from error


def _check_edges(model: Any, path: str) -> Tuple[int, ...]:
    """The input shape without the batch. Raises ExportError for several inputs or outputs, by name, or a free dimension."""
    sides = {side: list(getattr(model, f"{side}s", None) or ()) for side in ("input", "output")}
    if not any(sides.values()):
        raise ModelFileError(
            f"{path}: the model has no layer, or was never built; begin it with keras.Input(shape), and end it with a layer"
        )
    if any(len(tensors) != 1 for tensors in sides.values()):
        found = (f"{len(t)} {side}{'s' * (len(t) != 1)} ({', '.join(x.name for x in t)})" for side, t in sides.items())
        raise ModelFileError(f"{path}: has {' and '.join(found)}; accepted is one each")
    entry = model.inputs[0]
    shape = tuple(entry.shape[1:])
    if any(n is None for n in shape):
        raise ModelFileError(
            f"{path}: input shape {shape} has a free dimension; build the model with a fixed input shape"
        )
    if not shape:
        raise ModelFileError(f"{path}: a row of its input is one number without a dimension; use keras.Input((1,))")
    if getattr(entry, "dtype", "float32") != "float32":
        raise ModelFileError(
            f"{path}: takes {entry.dtype}; accepted is a float32 input: look texts and codes up before the model, or give it "
            "categories as columns of 0 and 1"
        )
    return shape


def _as_logits(model: Any, path: str, input_shape: Tuple[int, ...], classes: int) -> Any:
    import keras

    found = _check_edges(model, path)
    if input_shape and found != input_shape:
        raise ExportError(f"{path}: takes input {found}, the task gives {input_shape}")
    out = tuple(model.outputs[0].shape[1:])
    if len(out) != 1 or out[0] is None or (out[0] < 2 and classes != 1):
        raise ExportError(f"{path}: output shape {out}; accepted is (classes,) with at least 2 classes")
    if classes and out[0] != classes:
        raise ExportError(f"{path}: gives {out[0]} classes, the task has {classes}")
    last = model.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    if isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and activation == "softmax"
    ):
        return keras.Model(model.inputs[0], last.input, name=model.name)
    if activation == "softmax":
        last.activation = keras.activations.linear
    elif activation not in ("linear", "softmax"):
        raise ExportError(f"{path}: the last layer '{last.name}' ends in {activation}; accepted is linear or softmax")
    return model


def _checked_spec(spec: Mapping[str, Any]) -> Dict[str, Any]:
    if not isinstance(spec, Mapping):
        raise ExportError(f"a model spec is a table with a 'kind', not {type(spec).__name__}")
    if "kind" not in spec:
        meant = next(filter(None, (_near(key, ("kind",)) for key in spec)), "")
        raise ExportError(f"'kind' is missing{meant}; accepted: {', '.join(sorted(DEFAULTS))}")
    kind = spec["kind"]
    if not isinstance(kind, str) or kind not in DEFAULTS:
        raise ExportError(
            f"model kind {kind!r} is unknown; accepted: {', '.join(sorted(DEFAULTS))}{_near(kind, DEFAULTS)}"
        )
    full = {**DEFAULTS[kind], **spec}
    wrong = list(_objections(kind, full))
    if wrong:
        raise ExportError("\n".join(wrong))
    return full


def _objections(kind: str, full: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a spec of this kind, a line each."""
    for unknown in sorted(set(full) - set(DEFAULTS[kind]) - {"kind"}):
        yield (
            f"a model of kind {kind} has no {unknown!r}; accepted: {', '.join(sorted(DEFAULTS[kind]))}"
            f"{_near(unknown, DEFAULTS[kind])}"
        )
    for key in ("hidden", "filters", "dense"):
        if key in DEFAULTS[kind]:
            yield from _wrong_widths(key, full[key])
    if kind == "cnn1d" and full["filters"] in ([], ()):
        yield "model filters is empty; a cnn1d needs at least one convolution"
    for key in ("kernel", "pool"):
        if key in DEFAULTS[kind] and (not _is_int(full[key]) or not 1 <= full[key] <= 1024):
            yield f"model {key} is {full[key]!r}; accepted is a whole number from 1 to 1024"
    found = full.get("activation", ACTIVATIONS[0])
    if "activation" in DEFAULTS[kind] and found not in ACTIVATIONS:
        yield f"model activation {found!r} is unknown; accepted: {', '.join(ACTIVATIONS)}{_near(found, ACTIVATIONS)}"
    if kind == "keras" and not isinstance(full["path"], str):
        yield "model path: a model of kind keras needs a 'path' to a .keras file"


def _near(value: Any, known: Iterable[str]) -> str:
    names = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(str(value)[:64].casefold(), list(names), 1)
    return f", did you mean {names[found[0]]!r}?" if found else ""


MOST_LAYERS = 64
"""Of one list: deeper models are files of their author's (kind "keras")."""


def _wrong_widths(key: str, widths: Any) -> Iterator[str]:
    if not isinstance(widths, (list, tuple)):
        yield f"model {key} is {widths!r}; accepted is a list of layer widths, such as [16, 32]"
        return
    if len(widths) > MOST_LAYERS:
        yield f"model {key} lists {len(widths)} layers, at most {MOST_LAYERS}"
    wrong = [width for width in widths if not _is_int(width) or not 1 <= width <= 4096]
    if wrong:
        yield f"model {key} holds {wrong[0]!r}; a layer width is a whole number from 1 to 4096"


def _checked_shape(input_shape: Sequence[int]) -> Tuple[int, ...]:
    shape = tuple(input_shape)
    if not shape or not all(_is_int(n) and n > 0 for n in shape):
        raise ExportError(f"input shape {shape} must be whole numbers above 0, without the batch")
    return tuple(int(n) for n in shape)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def reason_of(error: BaseException) -> str:
    """The innermost reason in what Keras says, on one line."""
    text = said_by(error)
    inner = re.split(r"Exception encountered: ", text)[-1].strip()
    return next(iter((inner or text).splitlines()), "no message")[:200]
