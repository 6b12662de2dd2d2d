"""Linear models as two matrices, from a bundle or from an archive of weights, without TensorFlow."""

import hashlib
from pathlib import Path
from typing import List, NamedTuple, Optional

import numpy as np

from model_export.array_files import open_archive, read_array
from model_export.errors import ArrayFileError, ExportError, TfliteError
from model_export.manifest import read_manifest
from model_export.tflite_file import read_tflite
from model_export.tflite_model import TfliteModel

MODEL = "model.tflite"


class Linear(NamedTuple):
    """logits = x @ kernel + bias. kernel: float64 (features, classes). bias: float64 (classes,)."""

    kernel: np.ndarray
    bias: np.ndarray


def bundled_linear(folder: Path) -> Linear:
    """The linear model of a bundle, with the int8 weights its board uses, dequantized.

    Its .tflite has to have the digest the manifest records and to be one FULLY_CONNECTED without activation, and a SOFTMAX.
    Raises ExportError otherwise.
    """
    manifest = read_manifest(folder)
    path = folder / MODEL
    if MODEL not in manifest["files"]:
        raise ExportError(f"{folder}: holds trees and no {MODEL}; name the bundle of a linear model")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != manifest["files"][MODEL]["sha256"]:
        raise ExportError(f"{path}: is not the model the manifest describes: the file was changed or damaged")
    try:
        return _from_tflite(read_tflite(data), path)
    except TfliteError as error:
        raise ExportError(f"{path}: {error}") from error


def archived_linear(path: Path, folder: Optional[Path] = None) -> Linear:
    """Float weights: an .npz with `kernel` and `bias`, or an .npy as a gateway leaves it (OUT/work/trained.npy: the kernel
    row by row, then the bias), which needs the bundle made of it. With a bundle, weights that are not its own are refused.
    """
    bundled = None if folder is None else bundled_linear(folder)
    input_scale = 0.0 if folder is None else float(read_manifest(folder)["input"]["scale"])
    parts = _read_parts(path)
    if len(parts) == 1:
        if bundled is None:
            raise ExportError(
                f"{path}: a flat vector of weights has no shape of its own: name the bundle made of it, too"
            )
        if parts[0].shape != (bundled.kernel.size + bundled.bias.size,):
            raise ExportError(
                f"{path}: {parts[0].shape} weights; the bundle's model has {bundled.kernel.size + bundled.bias.size}"
            )
        found = Linear(parts[0][: bundled.kernel.size].reshape(bundled.kernel.shape), parts[0][bundled.kernel.size :])
    else:
        found = Linear(*parts)
    if found.kernel.ndim != 2 or found.bias.shape != found.kernel.shape[1:]:
        raise ExportError(f"{path}: kernel {found.kernel.shape} and bias {found.bias.shape} are no linear model")
    if not all(np.isfinite(part).all() for part in found):
        raise ExportError(f"{path}: holds weights that are not finite")
    if bundled is not None:
        _check_same(path, found, bundled, input_scale)
    return found


def _read_parts(path: Path) -> List[np.ndarray]:
    """float64: the array of an .npy, or `kernel` and `bias` of an .npz. Raises ExportError."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
            file.seek(0)
            if head != b"\x93NUMPY" and not head.startswith(b"PK"):
                raise ExportError(f"{path}: cannot be read: it is neither a .npy nor a .npz file")
            if head.startswith(b"PK"):
                with open_archive(file) as archive:
                    missing = sorted({"kernel", "bias"} - set(archive.names))
                    if missing:
                        raise ExportError(f"{path}: holds no {missing[0]!r}; a linear model is 'kernel' and 'bias'")
                    parts = [archive["kernel"], archive["bias"]]
            else:
                parts = [read_array(path)]
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
    except ArrayFileError as error:
        text = str(error)
        raise ExportError(text if text.startswith(str(path)) else f"{path}: {text}") from error
    for part in parts:
        if part.dtype.kind not in "iuf":
            raise ExportError(f"{path}: holds {part.dtype}; weights are numbers")
    return [part.astype(np.float64) for part in parts]


def _check_same(path: Path, found: Linear, bundled: Linear, input_scale: float) -> None:
    """Quantized weights are within half a step of the float ones: 127 steps are the largest, a bias's is input_scale finer."""
    if found.kernel.shape != bundled.kernel.shape:
        raise ExportError(f"{path}: kernel {found.kernel.shape}; the bundle's is {bundled.kernel.shape}")
    step = np.abs(found.kernel).max() / 127
    differences = [np.abs(a - b).max() for a, b in zip(found, bundled)]
    if differences[0] > 0.51 * step + 1e-6 or differences[1] > 0.51 * step * input_scale + 1e-6:
        raise ExportError(f"{path}: these are not the weights this bundle was made of")


def _from_tflite(model: TfliteModel, path: Path) -> Linear:
    operators = [op.code for op in model.ops]
    if operators not in (["FULLY_CONNECTED"], ["FULLY_CONNECTED", "SOFTMAX"]) or len(model.subgraphs) != 1:
        raise ExportError(
            f"{path}: not a linear model, but {' > '.join(operators)}; encrypted scores take one layer and a softmax "
            '(in edgeward.toml: kind = "mlp", hidden = [])'
        )
    op = model.ops[0]
    if op.options.get("activation") != "none":
        raise ExportError(f"{path}: not a linear model: its layer ends in {op.options.get('activation')}")
    # TFLite keeps a kernel as (outputs, inputs): Keras's, turned.
    kernel = _dequantized(model, op.inputs[1], path).T
    bias = (
        _dequantized(model, op.inputs[2], path)
        if len(op.inputs) > 2 and op.inputs[2] >= 0
        else np.zeros(kernel.shape[1])
    )
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise ExportError(f"{path}: kernel {kernel.shape} and bias {bias.shape} are no linear model")
    return Linear(kernel, bias)


def _dequantized(model: TfliteModel, index: int, path: Path) -> np.ndarray:
    tensor = model.tensors[index]
    if tensor.data is None or tensor.dtype not in ("int8", "int32", "float32"):
        raise ExportError(f"{path}: the weights '{tensor.name}' are no constants of a type this version reads")
    data = np.asarray(tensor.data, np.float64)
    if tensor.dtype == "float32":
        return data
    if len(tensor.scales) not in (1, data.shape[0]) or tensor.axis != 0 or np.any(tensor.zero_points):
        raise ExportError(f"{path}: the weights '{tensor.name}' are quantized in a way this version does not read")
    scales = np.asarray(tensor.scales, np.float64)
    return data * scales.reshape(-1, *[1] * (data.ndim - 1))
