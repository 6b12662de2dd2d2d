"""How a model that a federation trained ends on a board, where it is no classifier: multiplied and shifted, or with a sigmoid."""

from typing import Any, Mapping, Optional

import numpy as np

from model_export.errors import ExportError
from model_export.models import ending
from model_export.quiet import tensorflow

ENDINGS = ("linear", "sigmoid")


def check_ending(declared: Any) -> Optional[Mapping[str, Any]]:
    """`ending` of a spec: {ending[, scale, offset]}; None for a classifier. Raises ExportError."""
    if declared is None:
        return None
    if not isinstance(declared, dict) or not {"ending"} <= set(declared) <= {"ending", "scale", "offset"}:
        raise ExportError(f"ending is {declared!r}; accepted is an object with ending, and scale with offset")
    if declared["ending"] not in ENDINGS:
        raise ExportError(f"ending {declared['ending']!r}; accepted are {', '.join(ENDINGS)}")
    for name in ("scale", "offset"):
        value = declared.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ExportError(f"ending: {name} is {value!r}, not a finite number")
    return declared


def with_ending(model: Any, declared: Mapping[str, Any]) -> Any:
    """The model with this ending, its weights as they are; float32.

    scale and offset go into the last layer where it is a Dense layer without an activation, so that int8 rounds once; else one
    that does nothing else is appended.
    """
    tensorflow()
    import keras

    if declared["ending"] == "sigmoid":
        return keras.Model(model.inputs[0], keras.layers.Activation("sigmoid", name="shares")(model.outputs[0]))
    scale, offset = declared.get("scale", 1.0), declared.get("offset", 0.0)
    if (scale, offset) == (1.0, 0.0):
        return model
    layer, activation = ending(model)
    if not (isinstance(layer, keras.layers.Dense) and activation == "linear" and layer.use_bias):
        width = int(model.outputs[0].shape[-1])
        layer = keras.layers.Dense(width, name="units")
        model = keras.Model(model.inputs[0], layer(model.outputs[0]))
        layer.kernel.assign(np.eye(width, dtype=np.float32))
    layer.kernel.assign(np.asarray(layer.kernel) * np.float32(scale))
    layer.bias.assign(np.asarray(layer.bias) * np.float32(scale) + np.float32(offset))
    return model
