"""How far an autoencoder's output is from its input, on this machine as on a board (firmware/core/score.h), bit for bit."""

from typing import Any

import numpy as np


def int8_scores(inputs: "np.ndarray", outputs: "np.ndarray", given: Any, made: Any) -> "np.ndarray":
    """float32 (n,): the mean squared difference of int8 rows (n, ...) and what a model made of them, in their real values.

    given, made: model_export.tflm.Quantized, or whatever has the scale and zero_point of input and output.
    """
    rows = [
        (values.reshape(len(values), -1).astype(np.int32) - edge.zero_point) * np.float64(np.float32(edge.scale))
        for values, edge in ((inputs, given), (outputs, made))
    ]
    return _means(rows[0] - rows[1])


def float_scores(inputs: "np.ndarray", outputs: "np.ndarray") -> "np.ndarray":
    """float32 (n,): the same of rows of numbers (n, ...)."""
    return _means(inputs.reshape(len(inputs), -1).astype(np.float64) - outputs.reshape(len(outputs), -1))


def _means(off: "np.ndarray") -> "np.ndarray":
    """One after the other: a sum in another order has other last bits."""
    off = off.astype(np.float32).astype(np.float64)
    return (np.cumsum(off * off, axis=1)[:, -1] / off.shape[1]).astype(np.float32)
