"""A model with several output layers over one body, the heads: each a classifier, whose mean is the answer and whose spread
says how far they disagree. A federation with strategy fuala keeps one a hospital.
"""

from typing import Any, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.manifest import MOST_HEADS
from model_export.models import output_layer_sizes
from model_export.quiet import tensorflow


def check_heads(heads: "np.ndarray", size: int) -> "np.ndarray":
    """float32 (heads, size): the last values of each one's flat weights. Raises ExportError for what cannot be output layers."""
    found = np.asarray(heads)
    if found.ndim != 2 or not 2 <= len(found) <= MOST_HEADS:
        raise ExportError(f"heads have shape {found.shape}; accepted are 2 to {MOST_HEADS} rows, one a head")
    if not size:
        raise ExportError("heads are of a model whose last layer is Dense with a bias; this one is not")
    if found.shape[1] < size or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise ExportError(
            f"heads are {found.dtype} of {found.shape[1]} values; expected at least {size} finite numbers each"
        )
    return found[:, -size:].astype(np.float32)


def with_heads(model: Any, heads: "np.ndarray") -> Any:
    """The model with these output layers in place of its own: logits in, probabilities (heads, classes) out.

    heads: float (heads, n), flat weights of models like this one, or the last values of these.
    """
    tensorflow()
    import keras

    layer = model.outputs[0]._keras_history.operation
    given = check_heads(heads, output_layer_sizes(model)["head"])
    inputs, classes = (int(n) for n in layer.kernel.shape)
    kernels = given[:, : inputs * classes].reshape(len(given), inputs, classes)
    whole = keras.layers.Dense(len(given) * classes, name="heads")
    outputs = whole(layer.input)
    whole.kernel.assign(np.concatenate(list(kernels), axis=1))
    whole.bias.assign(given[:, inputs * classes :].ravel())
    shaped = keras.layers.Reshape((len(given), classes), name="of_each")(outputs)
    return keras.Model(model.inputs[0], keras.layers.Softmax(name="shares")(shaped), name=model.name)


def mean_and_spread(probabilities: "np.ndarray") -> Tuple["np.ndarray", "np.ndarray"]:
    """((n, classes), (n,)) float64 from (n, heads, classes): the heads' mean, and the standard deviation over heads of the
    probability of the class whose mean is the largest (the first of several).
    """
    each = np.asarray(probabilities, np.float64)
    mean = each.mean(axis=1)
    chosen = each[np.arange(len(each)), :, mean.argmax(axis=1)]
    return mean, chosen.std(axis=1)
