"""One function per TFLite operator: what engine/direct must know to compute the same bits as TFLM."""

from __future__ import annotations

from typing import Callable, Dict, List, Union

from model_export.plan_context import Context
from model_export.plan_places import concatenation, pack, pad, slice_, split, split_v, strided_slice, transpose, unpack
from model_export.plan_resize import resize_bilinear, resize_nearest_neighbor
from model_export.plan_steps import Step
from model_export.plan_values import (
    add,
    hard_swish,
    leaky_relu,
    logistic,
    maximum,
    minimum,
    multiply,
    prelu,
    quantize,
    relu,
    relu6,
    softmax,
    subtract,
    tanh,
)
from model_export.plan_windows import (
    conv_2d,
    depthwise_conv_2d,
    fully_connected,
    mean,
    pool,
    reduce_max,
    transpose_conv,
)
from model_export.tflite_file import Op, TfliteModel

_OPERATORS: Dict[str, Callable[[Context], Union[Step, List[Step]]]] = {
    "ADD": add,
    "AVERAGE_POOL_2D": pool("average_pool"),
    "CONCATENATION": concatenation,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "HARD_SWISH": hard_swish,
    "LEAKY_RELU": leaky_relu,
    "LOGISTIC": logistic,
    "MAXIMUM": maximum,
    "MAX_POOL_2D": pool("max_pool"),
    "MEAN": mean,
    "MINIMUM": minimum,
    "MUL": multiply,
    "PACK": pack,
    "PAD": pad,
    "PRELU": prelu,
    "QUANTIZE": quantize,
    "REDUCE_MAX": reduce_max,
    "RELU": relu,
    "RELU6": relu6,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "SLICE": slice_,
    "SOFTMAX": softmax,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "STRIDED_SLICE": strided_slice,
    "SUB": subtract,
    "TANH": tanh,
    "TRANSPOSE": transpose,
    "TRANSPOSE_CONV": transpose_conv,
    "UNPACK": unpack,
}
SUPPORTED = frozenset(_OPERATORS)


def lower(model: TfliteModel, op: Op) -> List[Step]:
    """The steps for one supported operator; raises PlanError where its options or types are not supported."""
    steps = _OPERATORS[op.code](Context(model, op))
    return steps if isinstance(steps, list) else [steps]
