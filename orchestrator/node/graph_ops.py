"""The operators a training graph may be made of: versions, options, and the shapes each must give.

Only operators that end for every number in their inputs, write all of their output, and keep nothing for the next call: no
variable, no branch, no loop, no lookup by a computed index, no random number. The list is what model_export/training_graph.py
makes of the layers it can train, and the plain relatives of those operators.
"""

from typing import Any, Dict, NamedTuple, Tuple

from model_export.tflite_names import OPERATOR_NAMES
from orchestrator.node.graph_shapes import (
    BOOL,
    FLOAT,
    Infer,
    add_n,
    along_last,
    batch_matmul,
    cast,
    concatenation,
    fully_connected,
    logical_not,
    one_hot,
    pack,
    pad,
    pad_v2,
    pairwise,
    reduction,
    reshape,
    reverse,
    same,
    select,
    select_v2,
    slice_,
    split,
    split_v,
    strided_slice,
    tile,
    transpose,
    unpack,
)
from orchestrator.node.graph_windows import (
    batch_to_space,
    conv_2d,
    depthwise_conv_2d,
    pool,
    space_to_batch,
    transpose_conv,
)


class Option(NamedTuple):
    """A field of an operator's options table. accepted: its only values; empty: any."""

    name: str
    field: int
    fmt: str
    default: Any = 0
    accepted: Tuple[Any, ...] = ()


class Rule(NamedTuple):
    """How an operator may be used. table: number of its options table; ignored: fields that mean nothing for what is allowed."""

    infer: Infer
    versions: Tuple[int, ...] = (1,)
    table: int = 0
    options: Tuple[Option, ...] = ()
    ignored: Tuple[int, ...] = ()


_FUSED = (0, 1, 2, 3)  # none, relu, relu_n1_to_1, relu6
_SIDES: Tuple[Option, ...] = (
    Option("padding", 0, "<b", 0, (0, 1)),
    Option("stride_w", 1, "<i"),
    Option("stride_h", 2, "<i"),
)


def _activation(field: int) -> Option:
    return Option("activation", field, "<b", 0, _FUSED)


def _count(axis: bool) -> Tuple[Option, ...]:
    return (Option("count", 0, "<i"), *([Option("axis", 1, "<i")] if axis else []))


_CONV = (*_SIDES, _activation(3), Option("dilation_w", 4, "<i", 1), Option("dilation_h", 5, "<i", 1))
_DEPTHWISE = (
    *_SIDES,
    Option("multiplier", 3, "<i"),
    _activation(4),
    Option("dilation_w", 5, "<i", 1),
    Option("dilation_h", 6, "<i", 1),
)
_POOL = (*_SIDES, Option("filter_w", 3, "<i"), Option("filter_h", 4, "<i"), _activation(5))
_DENSE = (
    _activation(0),
    Option("weights_format", 1, "<b", 0, (0,)),
    Option("keep_num_dims", 2, "<?", False),
    Option("asymmetric", 3, "<?", False, (False,)),
)
_MATMUL = (
    Option("adj_x", 0, "<?", False),
    Option("adj_y", 1, "<?", False),
    Option("asymmetric", 2, "<?", False, (False,)),
)
_SLICES = (
    Option("begin_mask", 0, "<i"),
    Option("end_mask", 1, "<i"),
    Option("ellipsis_mask", 2, "<i", 0, (0,)),
    Option("new_axis_mask", 3, "<i", 0, (0,)),
    Option("shrink_axis_mask", 4, "<i"),
    Option("offset", 5, "<?", False, (False,)),
)
_JOIN = (Option("axis", 0, "<i"), Option("activation", 1, "<b", 0, (0,)))
_KEEP = (Option("keep_dims", 0, "<?", False),)

_compare, _logical = pairwise(FLOAT, BOOL, 4), pairwise(BOOL, BOOL, 4)

RULES: Dict[str, Rule] = {
    "ABS": Rule(same, table=78),
    "ADD": Rule(pairwise(FLOAT, FLOAT, 5), table=11, options=(_activation(0),), ignored=(1,)),
    "ADD_N": Rule(add_n, table=82),
    "AVERAGE_POOL_2D": Rule(pool, table=5, options=_POOL),
    "BATCH_MATMUL": Rule(batch_matmul, table=101, options=_MATMUL),
    "BATCH_TO_SPACE_ND": Rule(batch_to_space, (1, 3), table=24),
    "CAST": Rule(cast, table=37, ignored=(0, 1)),
    "CONCATENATION": Rule(concatenation, table=10, options=_JOIN),
    "CONV_2D": Rule(conv_2d, table=1, options=_CONV, ignored=(6,)),
    "DEPTHWISE_CONV_2D": Rule(depthwise_conv_2d, (1, 2), table=2, options=_DEPTHWISE),
    "DIV": Rule(pairwise(FLOAT, FLOAT, 4), table=29, options=(_activation(0),)),
    "ELU": Rule(same),
    "EQUAL": Rule(_compare, table=53),
    "EXP": Rule(same, table=33),
    "FULLY_CONNECTED": Rule(fully_connected, (1, 2, 5), table=8, options=_DENSE, ignored=(4,)),
    "GREATER": Rule(_compare, table=44),
    "GREATER_EQUAL": Rule(_compare, table=45),
    "LEAKY_RELU": Rule(same, table=75, options=(Option("alpha", 0, "<f", 0.0),)),
    "LESS": Rule(_compare, table=41),
    "LESS_EQUAL": Rule(_compare, table=46),
    "LOG": Rule(same),
    "LOGICAL_AND": Rule(_logical, table=62),
    "LOGICAL_NOT": Rule(logical_not, table=63),
    "LOGICAL_OR": Rule(_logical, table=60),
    "LOGISTIC": Rule(same),
    "LOG_SOFTMAX": Rule(along_last, table=36),
    "MAXIMUM": Rule(pairwise(FLOAT, FLOAT, 4), table=39),
    "MAX_POOL_2D": Rule(pool, table=5, options=_POOL),
    "MEAN": Rule(reduction, table=27, options=_KEEP),
    "MINIMUM": Rule(pairwise(FLOAT, FLOAT, 4), table=39),
    "MUL": Rule(pairwise(FLOAT, FLOAT, 5), table=21, options=(_activation(0),)),
    "NEG": Rule(same, table=42),
    "NOT_EQUAL": Rule(_compare, table=54),
    "ONE_HOT": Rule(one_hot, table=61, options=(Option("axis", 0, "<i"),)),
    "PACK": Rule(pack, table=59, options=_count(axis=True)),
    "PAD": Rule(pad, table=22),
    "PADV2": Rule(pad_v2, table=43),
    "REDUCE_MAX": Rule(reduction, table=27, options=_KEEP),
    "REDUCE_MIN": Rule(reduction, table=27, options=_KEEP),
    "RELU": Rule(same),
    "RELU6": Rule(same),
    "RESHAPE": Rule(reshape, table=17, ignored=(0,)),
    "REVERSE_V2": Rule(reverse, table=81),
    "RSQRT": Rule(same),
    "SELECT": Rule(select, table=47),
    "SELECT_V2": Rule(select_v2, table=98),
    "SLICE": Rule(slice_, table=48),
    "SOFTMAX": Rule(along_last, table=9, options=(Option("beta", 0, "<f", 0.0),)),
    "SPACE_TO_BATCH_ND": Rule(space_to_batch, (1, 3), table=25),
    "SPLIT": Rule(split, table=35, options=_count(axis=False)),
    "SPLIT_V": Rule(split_v, table=79, options=_count(axis=False)),
    "SQRT": Rule(same),
    "SQUARE": Rule(same, table=66),
    "SQUARED_DIFFERENCE": Rule(pairwise(FLOAT, FLOAT, 4), table=76),
    "STRIDED_SLICE": Rule(strided_slice, table=32, options=_SLICES),
    "SUB": Rule(pairwise(FLOAT, FLOAT, 5), (1, 3), table=28, options=(_activation(0),), ignored=(1,)),
    "SUM": Rule(reduction, table=27, options=_KEEP),
    "TANH": Rule(same),
    "TILE": Rule(tile, table=51),
    "TRANSPOSE": Rule(transpose, table=26),
    "TRANSPOSE_CONV": Rule(transpose_conv, (1, 3), table=49, options=(*_SIDES, _activation(3)), ignored=(4,)),
    "UNPACK": Rule(unpack, table=64, options=_count(axis=True)),
}
"""By operator. Nothing else is ever loaded."""

CODES: Dict[int, str] = {OPERATOR_NAMES.index(name): name for name in RULES}
