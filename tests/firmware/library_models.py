"""Three models for libraries of them, written by hand and with random weights: dense layers, convolutions, and one with state."""

from typing import Dict, List, Tuple

import numpy as np
from one_op_models import Operator, Part, model_of, options_of, softmax_options
from state_models import streaming

RNG_SEED = 5


def _weights(rng: np.random.Generator, shape: Tuple[int, ...], axis: int = 0) -> Part:
    scales = (0.004 * np.exp(rng.uniform(-1, 1, shape[axis]))).astype(np.float32)
    return Part(shape, scales, 0, rng.integers(-127, 128, shape).astype(np.int8), axis)


def _bias(rng: np.random.Generator, source: Part, weights: Part) -> Part:
    scales = np.asarray(weights.scales, np.float32) * np.float32(source.scale)
    return Part((len(scales),), scales, 0, rng.integers(-900, 900, len(scales)).astype(np.int32))


def dense() -> bytes:
    rng = np.random.default_rng(RNG_SEED)
    entry, out, hidden, logits = (
        *(Part((1, 30), 0.05, -7), Part((1, 5), 1 / 256, -128)),
        *(Part((1, 17), 0.08, -128), Part((1, 5), 0.12, 9)),
    )
    first, second = _weights(rng, (17, 30)), _weights(rng, (5, 17))
    parts = [entry, out, hidden, logits, first, _bias(rng, entry, first), second, _bias(rng, hidden, second)]
    operators: List[Operator] = [
        ("FULLY_CONNECTED", [0, 4, 5], [2], options_of("FullyConnectedOptions", fusedActivationFunction=1)),
        ("FULLY_CONNECTED", [2, 6, 7], [3], options_of("FullyConnectedOptions")),
        ("SOFTMAX", [3], [1], softmax_options()),
    ]
    return model_of(parts, operators)


def conv() -> bytes:
    """An image through a convolution, a depthwise one and a pool, into 36 values: more than an example prints."""
    rng = np.random.default_rng(RNG_SEED)
    entry, out = Part((1, 9, 7, 3), 0.05, -7), Part((1, 36), 0.07, 3)
    wide, deep, pooled = Part((1, 9, 7, 6), 0.06, -128), Part((1, 9, 7, 6), 0.05, 2), Part((1, 3, 2, 6), 0.05, 2)
    flat, kernel, cells, matrix = (
        *(Part((1, 36), 0.05, 2), _weights(rng, (6, 3, 3, 3))),
        *(_weights(rng, (1, 3, 3, 6), 3), _weights(rng, (36, 36))),
    )
    parts = [entry, out, wide, deep, pooled, flat, kernel, _bias(rng, entry, kernel), cells, _bias(rng, wide, cells)]
    parts += [matrix, _bias(rng, flat, matrix)]
    strides = {"strideH": 1, "strideW": 1, "padding": 0}
    pool = options_of("Pool2DOptions", strideH=3, strideW=3, filterHeight=3, filterWidth=3, padding=1)
    operators: List[Operator] = [
        ("CONV_2D", [0, 6, 7], [2], options_of("Conv2DOptions", fusedActivationFunction=1, **strides)),
        ("DEPTHWISE_CONV_2D", [2, 8, 9], [3], options_of("DepthwiseConv2DOptions", depthMultiplier=1, **strides)),
        ("MAX_POOL_2D", [3], [4], pool),
        ("RESHAPE", [4], [5], options_of("ReshapeOptions", newShape=[1, 36])),
        ("FULLY_CONNECTED", [5, 10, 11], [1], options_of("FullyConnectedOptions")),
    ]
    return model_of(parts, operators)


NAMES = {"dense": "*/ ${HOME} %n @name@ ??/", "conv": "Signal", "streaming": "wake word 2"}
"""What their bundles call them: what a library is called is made of it."""

LABELS = ('an"end', "*/ // ??/", "%s%n${X}@name@", "back\\slash\\", "\u00fc\u5fc3")
"""Of `dense`: printable, so that README.md has them as the example prints them."""


def library_models() -> Dict[str, bytes]:
    return {"dense": dense(), "conv": conv(), "streaming": streaming()}
