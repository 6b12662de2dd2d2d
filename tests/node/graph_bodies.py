"""Gradients of one record by hand, an operator or a pattern of them each, for what a node makes of them (node/graph_rows.py)."""

from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from graph_samples import Builder, gradient, inference, training_file

from orchestrator.node.graph_file import Function
from orchestrator.node.graph_process import Limits

PATIENT = Limits(600.0, 600.0, 600.0, 1000.0)
FEATURES, CLASSES, ROWS = 6, 2, 4
PARAMETERS = (FEATURES + 1) * CLASSES

Body = Callable[[Builder, int, int], int]
"""(builder, x (1, FEATURES), w (PARAMETERS,)) -> a tensor of some numbers that depend on x."""


def whole(grad1: Function) -> bytes:
    """A training graph with this `grad1`, as a gateway would send it."""
    functions = {
        "grad": gradient(FEATURES, CLASSES, ROWS),
        "grad1": grad1,
        "infer": inference(FEATURES, CLASSES, ROWS),
        "infer1": inference(FEATURES, CLASSES, 1),
    }
    return training_file(functions)


def grad1_of(body: Body) -> Function:
    """A `grad1` whose gradient is what `body` makes of a record, over and over."""
    build = Builder()
    w, x = build.tensor([PARAMETERS]), build.tensor([1, FEATURES])
    y, sw = build.tensor([1], "int32"), build.tensor([1])
    made = body(build, x, w)
    size = int(np.prod(build.tensors[made].shape))
    flat = build.add("RESHAPE", [made, build.constant([size], "int32")])
    count = -(-PARAMETERS // size)
    long = build.add("TILE", [flat, build.constant([count], "int32")])
    g = build.add("SLICE", [long, build.constant([0], "int32"), build.constant([PARAMETERS], "int32")])
    g = build.add("MUL", [build.add("MUL", [g, build.add("MAXIMUM", [w, build.constant(0.5)])]), sw])
    loss = build.add("SUM", [build.add("MUL", [sw, sw]), build.constant([0], "int32")])
    return build.function([w, x, y, sw], [g, loss])


def axis(build: Builder, *numbers: Any) -> int:
    return build.constant(np.array(numbers if len(numbers) > 1 else numbers[0], "int32"), "int32")


def image(build: Builder, x: int) -> int:
    return build.add("RESHAPE", [x, build.constant([1, 2, 3, 1], "int32")])


def reduced(name: str, where: List[int]) -> Body:
    return lambda build, x, w: build.add(name, [x, build.constant(where, "int32")], keep_dims=True)


def unary(name: str) -> Body:
    return lambda build, x, w: build.add(name, [build.add("ABS", [x]) if name in ("LOG", "SQRT", "RSQRT") else x])


def pair(name: str) -> Body:
    """With another of the record's tensors of a lower rank, so that rows must not meet features."""

    def body(build: Builder, x: int, w: int) -> int:
        row = build.add("RESHAPE", [x, build.constant([FEATURES], "int32")])
        made = build.add(name, [x, build.add("REVERSE_V2", [row, build.constant([0], "int32")])])
        return made if build.tensors[made].dtype == "float32" else build.add("CAST", [made])

    return body


def kernel(build: Builder, w: int, shape: List[int]) -> int:
    size = int(np.prod(shape))
    head = build.add("SLICE", [w, build.constant([0], "int32"), build.constant([size], "int32")])
    return build.add("RESHAPE", [head, build.constant(shape, "int32")])


def of_images(name: str, shape: List[int], biases: Tuple[float, float] = (0.0, 0.0), **options: Any) -> Body:
    full = {"padding": 0, "stride_w": 1, "stride_h": 1, **options}

    def body(build: Builder, x: int, w: int) -> int:
        bias = build.constant(np.array(biases, "f4"))
        return build.add(name, [image(build, x), *([kernel(build, w, shape), bias] if shape else [])], **full)

    return body


def spread(shape: List[int], out: List[int], padding: int = 0, stride: int = 1) -> Body:
    """TRANSPOSE_CONV to images of `out`."""
    options = {"padding": padding, "stride_w": stride, "stride_h": stride}
    return lambda build, x, w: build.add(
        "TRANSPOSE_CONV", [axis(build, *out), kernel(build, w, shape), image(build, x)], **options
    )


def known_kernel(build: Builder, x: int, w: int) -> int:
    """With weights no call brings: a runtime's own convolution."""
    weights, bias = build.constant(np.array([[[[1.0], [2.0]]]], "f4")), build.constant(np.array([0.5], "f4"))
    return build.add("CONV_2D", [image(build, x), weights, bias], padding=0, stride_w=1, stride_h=1)


def dense_with_bias(build: Builder, x: int, w: int) -> int:
    bias = build.constant(np.array([0.1, -0.1], "f4"))
    return build.add("FULLY_CONNECTED", [x, kernel(build, w, [2, FEATURES]), bias], activation=1)


def numbers_joined(build: Builder, x: int, w: int) -> int:
    """Parts of one number each, of which many make a column."""
    lines = [image(build, x), build.add("NEG", [image(build, x)]), build.add("EXP", [image(build, x)])]
    return build.add("CONCATENATION", [*lines, build.add("ABS", [image(build, x)]), lines[0]], axis=-1)


def corners(build: Builder, x: int, w: int) -> int:
    """Every second of two axes, one of them left out."""
    bounds = axis(build, 0, 1, 0, 0), axis(build, 1, 2, 3, 1), axis(build, 1, 2, 2, 1)
    return build.add("STRIDED_SLICE", [image(build, x), *bounds], shrink_axis_mask=2)


def outer(build: Builder, x: int, w: int) -> int:
    column = build.add("RESHAPE", [x, build.constant([FEATURES, 1], "int32")])
    half = build.add("SLICE", [column, axis(build, 0, 0), axis(build, 2, 1)])
    return build.add("FULLY_CONNECTED", [column, half, -1])


def product(adj_x: bool) -> Body:
    def body(build: Builder, x: int, w: int) -> int:
        square = build.add("RESHAPE", [x, build.constant([2, 3], "int32")])
        other = build.add("NEG", [square])
        return build.add("BATCH_MATMUL", [square, other], adj_x=adj_x, adj_y=not adj_x)

    return body


def blocks(build: Builder, x: int, w: int) -> int:
    """Space to batch and back, with work on the batch between."""
    place = build.add("RESHAPE", [x, build.constant([1, 6, 1], "int32")])
    split = build.add("SPACE_TO_BATCH_ND", [place, build.constant([2], "int32"), build.constant([[0, 0]], "int32")])
    scaled = build.add("MUL", [split, build.constant(np.array([[[1.0]], [[3.0]]], "f4"))])
    return build.add("BATCH_TO_SPACE_ND", [scaled, build.constant([2], "int32"), build.constant([[0, 0]], "int32")])


def joined(build: Builder, x: int, w: int) -> int:
    """On the first axis, with numbers that no record has a part in between."""
    fixed = kernel(build, w, [1, FEATURES])
    return build.add("CONCATENATION", [x, fixed, build.constant(np.ones((1, FEATURES), "f4")), x], axis=0)


def packed(build: Builder, x: int, w: int) -> int:
    parts = build.add("UNPACK", [build.add("PACK", [x, build.add("NEG", [x])], count=2, axis=0)], 2, count=2, axis=0)
    return build.add("SUB", [parts[0], parts[1]])


def split(build: Builder, x: int, w: int) -> int:
    parts = build.add("SPLIT", [axis(build, 1), x], 2, count=2)
    sized = build.add("SPLIT_V", [x, axis(build, 2, 4), axis(build, -1)], 2, count=2)
    return build.add("CONCATENATION", [parts[1], sized[0], parts[0]], axis=-1)


def chosen(build: Builder, x: int, w: int) -> int:
    zero = build.constant(np.zeros((1, FEATURES), "f4"))
    picked = build.add("SELECT", [build.add("GREATER", [x, build.constant(0.0)]), x, zero])
    return build.add("SELECT_V2", [build.add("LESS", [x, zero]), picked, build.constant(2.0)])


def strided(step: int, first: int = 0) -> Body:
    def body(build: Builder, x: int, w: int) -> int:
        bounds = axis(build, 0, first), axis(build, 1, FEATURES), axis(build, 1, step)
        return build.add("STRIDED_SLICE", [x, *bounds])

    return body


def two_channels(build: Builder, x: int) -> int:
    """(1, 2, 3, 2)."""
    return build.add("CONCATENATION", [image(build, x), build.add("TANH", [image(build, x)])], axis=-1)


def masked(build: Builder, x: int, w: int) -> int:
    """As a gradient goes back through a ReLU."""
    over = build.add("GREATER", [build.add("RELU", [x]), build.constant(0.0)])
    return build.add("MUL", [build.add("EXP", [x]), build.add("CAST", [over])])


def of_channels(build: Builder, x: int, w: int) -> int:
    return build.add("ADD", [two_channels(build, x), kernel(build, w, [2])], activation=1)


def of_each_channel(size: int, biases: Tuple[float, float], activation: int = 0, sum_again: bool = False) -> Body:
    """A depthwise convolution and, in an operator behind it, a bias for each channel."""

    def body(build: Builder, x: int, w: int) -> int:
        options = {"padding": 0, "stride_w": 1, "stride_h": 1, "multiplier": 1}
        weights = kernel(build, w, [1, size, size, 2])
        bias = build.constant(np.array(biases, "f4"))
        made = build.add("DEPTHWISE_CONV_2D", [two_channels(build, x), weights, bias], **options)
        found = build.add("ADD", [made, kernel(build, w, [2])], activation=activation)
        return build.add("SUB", [found, made]) if sum_again else found

    return body


def strides_apart(build: Builder, x: int, w: int) -> int:
    """Two axes in strides, with others before, between and behind."""
    large = build.add("TILE", [build.add("RESHAPE", [x, axis(build, 1, 3, 1, 2)]), axis(build, 3, 2, 5, 1)])
    bounds = axis(build, 0, 0, 0, 0), axis(build, 3, 6, 5, 2), axis(build, 2, 1, 2, 1)
    return build.add("STRIDED_SLICE", [large, *bounds])


def depthwise_gradient(
    stride: int, order: Tuple[int, ...] = tuple(range(9)), height: int = 5, over: Tuple[int, ...] = (0, 1, 2)
) -> Body:
    """Of a kernel of 3 x 3 by what it read, as a graph has it: from each place what was there times what came back, summed."""

    def body(build: Builder, x: int, w: int) -> int:
        wide = [[0, 0], [1, height - 3], [1, 1], [0, 0]]
        read = build.add("PAD", [two_channels(build, x), build.constant(wide, "int32")])
        back = build.add(
            "SLICE", [build.add("NEG", [two_channels(build, x)]), axis(build, 0, 0, 0, 0), axis(build, 1, 2, 2, 2)]
        )
        parts = []
        for i, j in [divmod(place, 3) for place in order]:
            ends = [1, i + stride + 1, j + stride + 1, 2]
            bounds = axis(build, 0, i, j, 0), axis(build, *ends), axis(build, 1, stride, stride, 1)
            product = build.add("MUL", [build.add("STRIDED_SLICE", [read, *bounds]), back])
            parts.append(build.add("SUM", [product, axis(build, *over)]))
        return build.add("PACK", parts, count=9, axis=0)

    return body


BODIES: Dict[str, Body] = {
    "mask of a ReLU": masked,
    "bias of channels": of_channels,
    **{name: unary(name) for name in ("ABS", "ELU", "EXP", "LOG", "LOGISTIC", "NEG", "RELU", "RELU6", "RSQRT", "SQRT")},
    **{name: unary(name) for name in ("SQUARE", "TANH")},
    **{
        name: pair(name)
        for name in ("ADD", "DIV", "EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "MAXIMUM")
    },
    **{name: pair(name) for name in ("MINIMUM", "MUL", "NOT_EQUAL", "SQUARED_DIFFERENCE", "SUB")},
    **{f"{name} of the batch": reduced(name, [0]) for name in ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")},
    **{f"{name} of the numbers": reduced(name, [-1]) for name in ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM")},
    "SUM of both": reduced("SUM", [0, 1]),
    "LOG_SOFTMAX": lambda build, x, w: build.add("LOG_SOFTMAX", [x]),
    "SOFTMAX": lambda build, x, w: build.add("SOFTMAX", [x], beta=1.0),
    "ADD_N": lambda build, x, w: build.add("ADD_N", [x, kernel(build, w, [1, FEATURES]), x]),
    "LEAKY_RELU": lambda build, x, w: build.add("LEAKY_RELU", [x], alpha=0.2),
    "TRANSPOSE": lambda build, x, w: build.add("TRANSPOSE", [x, axis(build, 1, 0)]),
    "REVERSE of the batch": lambda build, x, w: build.add("REVERSE_V2", [x, build.constant([0], "int32")]),
    "TILE": lambda build, x, w: build.add("TILE", [x, axis(build, 3, 1)]),
    "PAD": lambda build, x, w: build.add("PAD", [x, build.constant([[1, 0], [0, 2]], "int32")]),
    "PADV2": lambda build, x, w: build.add(
        "PADV2", [x, build.constant([[1, 0], [0, 2]], "int32"), build.constant(7.0)]
    ),
    "STRIDED_SLICE": strided(1, 2),
    "STRIDED_SLICE of every second": strided(2, 1),
    "STRIDED_SLICE of every fourth": strided(4),
    "STRIDED_SLICE in a long stride": strided(1000, 1),
    "STRIDED_SLICE of axes apart": strides_apart,
    "FULLY_CONNECTED": lambda build, x, w: build.add("FULLY_CONNECTED", [x, kernel(build, w, [2, FEATURES]), -1]),
    "FULLY_CONNECTED of two": outer,
    "BATCH_MATMUL": lambda build, x, w: build.add("BATCH_MATMUL", [x, kernel(build, w, [FEATURES, 2])]),
    "BATCH_MATMUL of two": product(False),
    "BATCH_MATMUL of two, turned": product(True),
    "CONV_2D": of_images("CONV_2D", [2, 1, 2, 1]),
    "DEPTHWISE_CONV_2D": of_images("DEPTHWISE_CONV_2D", [1, 2, 2, 2], multiplier=2),
    "MAX_POOL_2D": of_images("MAX_POOL_2D", [], filter_w=2, filter_h=1),
    "AVERAGE_POOL_2D": of_images("AVERAGE_POOL_2D", [], filter_w=2, filter_h=2),
    "TRANSPOSE_CONV": lambda build, x, w: build.add(
        "TRANSPOSE_CONV",
        [axis(build, 1, 2, 3, 2), kernel(build, w, [2, 1, 2, 1]), image(build, x)],
        stride_w=1,
        stride_h=1,
    ),
    "CONCATENATION of numbers": numbers_joined,
    "STRIDED_SLICE of corners": corners,
    "STRIDED_SLICE of every fourth from the second": strided(4, 1),
    "SPACE_TO_BATCH_ND": blocks,
    "CONCATENATION": joined,
    "PACK": packed,
    "SPLIT": split,
    "SELECT": chosen,
}


PRODUCTS: Dict[str, Body] = {
    "CONV_2D over the edges": of_images("CONV_2D", [2, 2, 2, 1]),
    "CONV_2D inside": of_images("CONV_2D", [2, 2, 2, 1], padding=1),
    "CONV_2D of one place": of_images("CONV_2D", [2, 1, 1, 1]),
    "CONV_2D in strides": of_images("CONV_2D", [2, 2, 2, 1], stride_w=2, stride_h=2),
    "CONV_2D in strides inside": of_images("CONV_2D", [2, 1, 1, 1], stride_w=2, padding=1),
    "CONV_2D with gaps": of_images("CONV_2D", [2, 1, 2, 1], dilation_w=2),
    "CONV_2D with a bias": of_images("CONV_2D", [2, 1, 2, 1], (0.3, -0.2), activation=1),
    "CONV_2D of a known kernel": known_kernel,
    "TRANSPOSE_CONV over the edges": spread([2, 2, 2, 1], [1, 2, 3, 2]),
    "TRANSPOSE_CONV beyond": spread([2, 2, 2, 1], [1, 3, 4, 2], padding=1),
    "TRANSPOSE_CONV in strides": spread([2, 2, 2, 1], [1, 4, 6, 2], stride=2),
    "FULLY_CONNECTED with a bias": dense_with_bias,
    "DEPTHWISE_CONV_2D and a bias": of_each_channel(2, (0.0, 0.0), activation=1),
    "DEPTHWISE_CONV_2D with a bias and another": of_each_channel(2, (0.3, -0.2)),
    "DEPTHWISE_CONV_2D without its bias as well": of_each_channel(2, (0.0, 0.0), sum_again=True),
    "DEPTHWISE_CONV_2D of one place": of_each_channel(1, (0.0, 0.0)),
    "gradient of a depthwise kernel": depthwise_gradient(2),
    "the same in another order": depthwise_gradient(2, (0, 1, 2, 3, 5, 4, 6, 7, 8)),
    "the same of a larger input": depthwise_gradient(2, height=6),
    "sums over rows and channels instead": depthwise_gradient(2, over=(0, 1, 3)),
    "sums over columns and channels instead": depthwise_gradient(2, over=(0, 2, 3)),
    "gradient of a depthwise kernel without strides": depthwise_gradient(1),
}
"""Of sums in another order than the runtime's own convolutions have them: their last bits differ where terms cancel."""


def records(count: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights, x, y)."""
    random = np.random.default_rng(3)
    x = random.standard_normal((count, FEATURES)).astype("f4")
    return random.standard_normal(PARAMETERS).astype("f4"), x, random.integers(0, CLASSES, count).astype("i4")
