"""The model before quantization, as files: a float32 .tflite and a .keras, with the ending the int8 model has."""

import re
import tempfile
from pathlib import Path
from typing import Any, Dict

from model_export.board_forms import board_forms
from model_export.errors import ExportError
from model_export.quiet import quiet_stderr, said_by, tensorflow


def float_files(model: Any, softmax: bool) -> Dict[str, bytes]:
    """The bytes of model_float.tflite and model.keras; `softmax` appends one to both. Raises ExportError."""
    with quiet_stderr():
        try:
            return {"model_float.tflite": _tflite(model, softmax), "model.keras": _keras(model, softmax)}
        except Exception as error:  # the converter raises its own type, Keras whatever its layers raise
            raise ExportError(f"the float model cannot be written: {converter_reason(error)}") from error


def forward_function(model: Any, softmax: bool) -> Any:
    """A concrete function of batch 1 from float32 `x` to the model's output, its weights as constants.

    With variables left in the graph, calibration dies on READ_VARIABLE.
    """
    tf = tensorflow()
    trainable = [tf.constant(v.numpy()) for v in model.trainable_variables]
    frozen = [tf.constant(v.numpy()) for v in model.non_trainable_variables]
    shape = tuple(model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec((1, *shape), tf.float32, "x")], autograph=False)
    def forward(x: Any) -> Any:
        logits = model.stateless_call(trainable, frozen, x, training=False)[0]
        return tf.nn.softmax(logits) if softmax else logits

    with board_forms(model):
        return forward.get_concrete_function()


def converter_reason(error: BaseException) -> str:
    """What the converter says first: the operator it has no form for, or its first line without places in TensorFlow."""
    text = said_by(error)
    flex = sorted(set(re.findall(r"'(?:tf\.)?([\w.]+)' op is neither a custom op nor a flex op", text)))
    if flex:
        return f"TensorFlow Lite has no {', '.join(flex[:3])} of these types; replace the layer it comes from"
    line = next(iter(text.splitlines()), type(error).__name__)
    return re.sub(r"\S*\.py:\d+:\d+: (?:error: )?", "", line)[:300]


def _tflite(model: Any, softmax: bool) -> bytes:
    converter = tensorflow().lite.TFLiteConverter.from_concrete_functions([forward_function(model, softmax)])
    return bytes(converter.convert())


def _keras(model: Any, softmax: bool) -> bytes:
    import keras

    whole = model
    if softmax:
        names, name = {layer.name for layer in model.layers}, "probabilities"
        while name in names:
            name += "_"
        whole = keras.Model(model.inputs[0], keras.layers.Softmax(name=name)(model.outputs[0]), name=model.name)
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        path = Path(folder) / "model.keras"
        whole.save(path)
        return path.read_bytes()
