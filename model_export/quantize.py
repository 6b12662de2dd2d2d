"""Full-int8 post-training quantization of a float model, in a form TensorFlow Lite Micro runs as it is."""

import re
from typing import Any, List

import numpy as np

from model_export.board_forms import MOST_STEPS, loops
from model_export.errors import ExportError
from model_export.float_model import converter_reason, forward_function
from model_export.given_rows import check_numbers, check_shape
from model_export.operators import operators
from model_export.quiet import quiet_stderr, said_by, tensorflow
from model_export.relu6 import relu6_as_relu
from model_export.tflite_file import read_tflite
from model_export.tflite_model import TfliteModel

CALIBRATION_ROWS = 500
FEW_ROWS = 20
ATTEMPTS = 8
"""To convert a model, where the converter leaves splits in float."""
LARGEST_OUTPUT = 1e30
FORBIDDEN = ("SHAPE",)  # the sign of a free dimension
ISLANDS = ("QUANTIZE", "DEQUANTIZE")  # signs of float operators in between


def quantize_int8(
    model: Any, representative: "np.ndarray", softmax: bool = True, per_channel_dense: bool = False
) -> bytes:
    """The model as a .tflite file with int8 input, weights and output, batch 1; `softmax` appends one.

    `representative` is float32 (rows, *input shape), in the units the model was trained on; at most CALIBRATION_ROWS
    of them, evenly spaced, set the ranges. Dense layers get one scale per layer: esp-nn's ESP32-S3 kernel is wrong for
    per-channel scales (esp-nn#34), and the file is smaller; `per_channel_dense=True` asks for the converter's default.
    Raises ExportError for data that cannot calibrate, and for a model that does not become int8 throughout.
    """
    tf = tensorflow()
    shape = tuple(model.inputs[0].shape[1:])
    rows = calibration_rows(representative, shape)
    check_computable(model, rows)
    with quiet_stderr():
        try:
            for _ in range(ATTEMPTS):
                converter = tf.lite.TFLiteConverter.from_concrete_functions([forward_function(model, softmax)])
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = lambda: ([row[None]] for row in rows)
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = converter.inference_output_type = tf.int8
                converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel_dense
                blob = bytes(converter.convert())
                if not split_in_float(read_tflite(blob)):
                    break
        except Exception as error:  # the converter raises its own type, and plain ones from tracing
            raise ExportError(f"this model cannot be quantized to int8: {converter_reason(error)}") from error
    blob = relu6_as_relu(blob)
    parsed = read_tflite(blob)
    tensors = parsed.tensors
    for op in parsed.ops:
        if op.code in FORBIDDEN:
            raise ExportError(f"the int8 model holds {op.code} (operator {op.index}): its shapes are not fixed")
        if op.code in ISLANDS and any(tensors[index].dtype == "float32" for index in (*op.inputs, *op.outputs)):
            raise ExportError(
                f"the int8 model holds {op.code} (operator {op.index}): a layer beside it has no int8 form; "
                "replace layer normalisation and similar layers"
            )
    return blob


def split_in_float(model: TfliteModel) -> bool:
    """Whether the converter left an operator of several outputs in float between int8 ones.

    It does so about one time in three, of the same model: in what order it propagates scales is not fixed. Converted again, the
    operator is int8.
    """
    several = {name for name, entry in operators().items() if entry.several_outputs}
    return any(op.code in several and model.tensors[op.outputs[0]].dtype == "float32" for op in model.ops)


def layer_reason(error: BaseException) -> str:
    """What a layer says, without Keras's frame round it and names of functions of TensorFlow."""
    lines = [re.sub(r"\{\{.*?\}\}|\[Op:\w+\].*", "", line).strip() for line in said_by(error).splitlines()]
    useful = [line for line in lines if line and not line.startswith("Exception encountered when calling")]
    return (useful or [type(error).__name__])[0][:200]


def check_computable(model: Any, rows: "np.ndarray") -> None:
    """Raises ExportError for weights or outputs that no int8 stands for, and for layers that end the converter's process."""
    import keras

    for layer, steps in loops(model):
        if steps is None or steps > MOST_STEPS:
            raise ExportError(
                f"layer {layer.name!r} ({type(layer).__name__}) is a loop over {steps or 'an unknown number of'} steps, which "
                f"has no int8 form in TensorFlow Lite Micro; up to {MOST_STEPS} are unrolled: give it shorter rows, or use "
                "convolutions over time"
            )
    for variable in model.variables:
        if variable.dtype.startswith("float") and not np.isfinite(np.asarray(variable)).all():
            raise ExportError(
                f"weights {variable.path!r} hold NaN or infinity: training diverged; train again with a smaller learning rate"
            )
    try:
        found = np.asarray(keras.tree.flatten(model(rows, training=False))[0])  # one output may be in a dict or a list
    except Exception as error:  # a layer raises whatever it wants
        raise ExportError(f"the model fails on the representative rows: {layer_reason(error)}") from error
    if not np.isfinite(found).all() or np.abs(found).max(initial=0) > LARGEST_OUTPUT:
        bad = int(np.argwhere(~(np.abs(found) <= LARGEST_OUTPUT))[0][0])
        raise ExportError(
            f"the float model gives NaN, infinity or a value beyond {LARGEST_OUTPUT:g} for representative row {bad}: its weights "
            "or these rows are too large"
        )


def doubts(representative: "np.ndarray") -> List[str]:
    """What to say of rows that show too little of what a model is given: int8 ranges are theirs, and what is beyond saturates."""
    if representative.ndim < 2 or not len(representative):
        return []
    found = []
    if len(representative) < FEW_ROWS:
        found.append(f"int8 ranges of {len(representative)} representative rows: give some hundred that are typical")
    elif not (representative != representative[0]).any():
        found.append("all representative rows are the same: int8 ranges of one value hold no other; give typical ones")
    return found


def calibration_rows(representative: "np.ndarray", shape: Any) -> "np.ndarray":
    """The rows that calibrate, float32 (n, *shape), n <= CALIBRATION_ROWS. Raises RowsError naming what is wrong."""
    rows = np.asarray(representative)
    check_shape(rows, shape, "representative data")
    rows = check_numbers(rows, "representative data holds")
    if len(rows) > CALIBRATION_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, CALIBRATION_ROWS).astype(int)]
    return rows
