"""A node's own function for many records at once, made of the `grad1` it has checked: an axis more, over which nothing sums.

A signature of the gateway's for whole batches could mix the records in it, and no check would show that it does not. Here every
tensor is either of the weights and constants alone, or has the row as its first axis, and each rule below gives an operator whose
row r depends on row r of its inputs only. An operator without a rule, or in a use without one, means that there is no such
function, and the node runs `grad1` record by record (node/graph_places.py says how records get their rows).
"""

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from orchestrator.errors import GraphError
from orchestrator.node.graph_check import CheckedGraph, function_memory
from orchestrator.node.graph_file import Function, Operation
from orchestrator.node.graph_rewriting import Give, NoRuleError, Rows
from orchestrator.node.graph_row_numbers import alike, broadcast, cast, each
from orchestrator.node.graph_row_parts import join_rule, pack_rule, pad_rule, slice_rule, strided_rule
from orchestrator.node.graph_row_sums import summed
from orchestrator.node.graph_row_windows import added, convolution, spread_windows, windows
from orchestrator.node.graph_shapes import size_of

MOST_ROWS = 16
FEW_NUMBERS, MOST_NUMBERS = 1 << 14, 1 << 16
"""Of a call's answer. Where gradients are long, many rows gain little over few, and more of them stay empty."""

MOST_BYTES = 8 << 20
"""Of all tensors of a call: a node has little memory, and what needs more is not much faster by rows."""


def rows_of(graph: CheckedGraph) -> Dict[int, Function]:
    """A graph's functions by their rows: for the most records that leave answers small, for fewer, and for one record.

    The last is worth something, too: what `grad1` computes, without what only the loss needs.
    """
    one = rows_function(graph.functions["grad1"], 1) if "grad1" in graph.functions else None
    if one is None or one.memory_bytes > MOST_BYTES:
        return {}
    made = {1: one}
    fitting = min(MOST_ROWS, MOST_BYTES // one.memory_bytes)  # weights are counted once, so that many have room
    for numbers in (FEW_NUMBERS, MOST_NUMBERS):
        rows = min(fitting, numbers // graph.parameters)
        function = rows_function(graph.functions["grad1"], rows) if rows > max(made) else None
        if function and function.memory_bytes <= MOST_BYTES:
            made[rows] = function
    return made


def sums_of(graph: CheckedGraph) -> Optional[Function]:
    """By what a step without privacy computes a batch, some records a call; None where `grad` is to see whole batches.

    A runtime's kernels for convolutions with weights of the moment are slow, and a batch of unfolded windows is large. It is a
    matter of the graph alone, not of how fast anything was: the same steps give the same bits again.
    """
    function = graph.functions.get("grad1")
    if function is None or not _CONVOLUTIONS.intersection(operation.name for operation in function.operations):
        return None
    one = sums_function(function, 1)
    if one is None or one.memory_bytes > MOST_BYTES:
        return None
    most = min(MOST_ROWS, MOST_BYTES // one.memory_bytes, graph.batch_size)
    even = [rows for rows in range(most // 2 + 1, most + 1) if graph.batch_size % rows == 0]  # no places stay empty
    made = sums_function(function, max(even, default=most))
    return made if made and made.memory_bytes <= MOST_BYTES else one


_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}


def rows_function(function: Function, rows: int) -> Optional[Function]:
    """`grad1` for `rows` records: w (P,), x (rows, 1, *S), y (rows, 1) -> g (rows, P); None where it cannot be made.

    Sample weights are 1, as they are for `grad1` wherever a node runs it record by record. There is no loss.
    """
    try:
        found = Rows(function, rows, _RULES, MOST_BYTES).rewritten()
        return found._replace(memory_bytes=function_memory("rows", found))
    except (NoRuleError, GraphError):  # the latter: a shape with an axis more is not accepted, or takes too much memory
        return None


def sums_function(function: Function, rows: int) -> Optional[Function]:
    """`grad1` for `rows` records and their sum: w (P,), x (rows, 1, *S), y (rows, 1), sw (rows, 1) -> g (P,).

    Every record counts for its sample weight, of 0 to 1. None where it cannot be made.
    """
    try:
        found = Rows(function, rows, _RULES, MOST_BYTES).rewritten(summed)
        return found._replace(memory_bytes=function_memory("sums", found))
    except (NoRuleError, GraphError):
        return None


def _along_last(rows: Rows, operation: Operation) -> List[int]:
    shape = rows.shape(operation.inputs[0])
    flat = rows.reshaped(rows.new[operation.inputs[0]], (rows.rows * size_of(shape[:-1]), shape[-1]))
    (made,) = rows.add(operation.name, [flat], operation.options, 1, operation.version)
    return [rows.reshaped(made, (rows.rows, *shape))]


def _reduced(rows: Rows, operation: Operation) -> List[int]:
    shape, out = rows.shape(operation.inputs[0]), rows.shape(operation.outputs[0])
    x = rows.only_first(operation)
    axes = {int(axis) % len(shape) for axis in rows.constant(operation.inputs[1]).ravel()}
    kept = [axis for axis, n in enumerate(shape) if n != 1]
    over = [place for place, axis in enumerate(kept, 1) if axis in axes]
    if over:
        lean = (rows.rows, *[shape[axis] for axis in kept])
        had = rows.tensors[rows.unshaped(x)].shape
        behind = size_of(lean[len(over) + 1 :])
        until = next((axis for axis in range(2, len(had)) if size_of(had[axis:]) == behind), 0)
        if over == list(range(1, len(over) + 1)) and until and had[0] == rows.rows:  # as it is
            x, over = rows.unshaped(x), list(range(1, until))
        else:
            x = rows.reshaped(x, lean)
        (x,) = rows.add(operation.name, [x, rows.numbers(over)], {"keep_dims": False}, 1, operation.version)
    return [rows.reshaped(x, (rows.rows, *out))]


def _reshaped(rows: Rows, operation: Operation) -> List[int]:
    return [rows.reshaped(rows.only_first(operation), (rows.rows, *rows.shape(operation.outputs[0])))]


def _split(rows: Rows, operation: Operation) -> List[int]:
    axis = int(rows.constant(operation.inputs[0]).ravel()[0]) % len(rows.shape(operation.inputs[1]))
    inputs = [rows.numbers(axis + 1), rows.only_first(operation, 1)]
    return rows.add(operation.name, inputs, operation.options, len(operation.outputs), operation.version)


def _split_v(rows: Rows, operation: Operation) -> List[int]:
    x, lengths, where = operation.inputs
    axis = int(rows.constant(where).ravel()[0]) % len(rows.shape(x))
    inputs = [rows.only_first(operation), rows.numbers(rows.constant(lengths)), rows.numbers(axis + 1)]
    return rows.add(operation.name, inputs, operation.options, len(operation.outputs), operation.version)


def _unpacked(rows: Rows, operation: Operation) -> List[int]:
    axis = operation.options["axis"] % len(rows.shape(operation.inputs[0])) + 1
    options = {**operation.options, "axis": axis}
    x = rows.only_first(operation)
    return rows.add(operation.name, [x], options, len(operation.outputs), operation.version)


def _hot(rows: Rows, operation: Operation) -> List[int]:
    x, rank = rows.only_first(operation), len(rows.shape(operation.outputs[0]))
    options = {**operation.options, "axis": operation.options["axis"] % rank + 1}
    others = [rows.new[i] for i in operation.inputs[1:]]
    return rows.add(operation.name, [x, *others], options, 1, operation.version)


def _with(first: Callable[[int], Any], *more: Callable[[int], Any]) -> Give:
    """The first input's rows, and constants that say for each axis what is done: for the rows nothing."""

    def give(rows: Rows, operation: Operation) -> List[int]:
        inputs = [rows.only_first(operation)]
        for before, index in zip((first, *more), operation.inputs[1:]):
            inputs.append(rows.numbers(np.concatenate([np.array([before(rows.rows)]), rows.constant(index)])))
        inputs += [rows.new[i] for i in operation.inputs[len(inputs) :]]
        options = {name: v << 1 if name.endswith("_mask") else v for name, v in operation.options.items()}
        return rows.add(operation.name, inputs, options, len(operation.outputs), operation.version)

    return give


def _turned(rows: Rows, operation: Operation) -> List[int]:
    """TRANSPOSE and REVERSE_V2: axes by number."""
    axes = (rows.constant(operation.inputs[1]) % len(rows.shape(operation.inputs[0])) + 1).tolist()
    axes = [0, *axes] if operation.name == "TRANSPOSE" else axes
    x = rows.only_first(operation)
    return rows.add(operation.name, [x, rows.numbers(axes)], operation.options, 1, operation.version)


def _dense(rows: Rows, operation: Operation) -> List[int]:
    x, kernel, *bias = operation.inputs
    _, width = rows.shape(kernel)
    out = rows.shape(operation.outputs[0])
    if any(rows.is_rowed(i) for i in bias):
        raise NoRuleError("a bias of the record")
    count = size_of(rows.shape(x)) // width
    if not rows.is_rowed(kernel):
        flat = rows.reshaped(rows.new[x], (rows.rows * count, width))
        if (
            rows.old.tensors[kernel].data is None
        ):  # as for convolutions: a product of matrices takes weights of the moment
            (made,) = rows.add("BATCH_MATMUL", [flat, rows.new[kernel]], {"adj_y": True})
            return [rows.reshaped(added(rows, operation, made, bias), (rows.rows, *out))]
        options = {**operation.options, "keep_num_dims": False}
        inputs = [flat, rows.new[kernel], *[rows.new[i] for i in bias]]
        (made,) = rows.add(operation.name, inputs, options, 1, operation.version)
        return [rows.reshaped(made, (rows.rows, *out))]
    if operation.options["activation"] or any(i >= 0 for i in bias):
        raise NoRuleError("a kernel of the record with a bias or an activation")
    shape = (rows.rows, count, width) if rows.is_rowed(x) else (count, width)
    left = rows.reshaped(rows.new[x], shape)
    return [rows.reshaped(_product(rows, left, rows.new[kernel], False, True), (rows.rows, *out))]


def _matmul(rows: Rows, operation: Operation) -> List[int]:
    a, b = operation.inputs
    options, out = operation.options, rows.shape(operation.outputs[0])
    if not rows.is_rowed(b) and len(rows.shape(b)) == 2 and not options["adj_x"]:
        shape = rows.shape(a)
        flat = rows.reshaped(rows.new[a], (rows.rows * size_of(shape[:-1]), shape[-1]))
        (made,) = rows.add(operation.name, [flat, rows.new[b]], options, 1, operation.version)
        return [rows.reshaped(made, (rows.rows, *out))]
    if any(size_of(rows.shape(i)[:-2]) > 1 for i in operation.inputs):
        raise NoRuleError("products of several matrices a record")
    left, right = (
        rows.reshaped(rows.new[i], (*([rows.rows] if rows.is_rowed(i) else []), *rows.shape(i)[-2:])) for i in (a, b)
    )
    made = _product(rows, left, right, options["adj_x"], options["adj_y"])
    return [rows.reshaped(made, (rows.rows, *out))]


def _product(rows: Rows, a: int, b: int, adj_x: bool, adj_y: bool) -> int:
    """Matrix products row by row, of new tensors (rows, m, k) and (rows, k, n) or turned; one without rows has two axes."""
    shapes = [rows.tensors[i].shape for i in (a, b)]
    if shapes[0][-2 if adj_x else -1] == 1 and len(shapes[0]) == len(shapes[1]) == 3:
        # Of one term each: nothing is summed, and a product of numbers is faster.
        columns = rows.reshaped(a, (rows.rows, size_of(shapes[0][1:]), 1))
        return rows.add("MUL", [columns, rows.reshaped(b, (rows.rows, 1, size_of(shapes[1][1:])))])[0]
    return rows.add("BATCH_MATMUL", [a, b], {"adj_x": adj_x, "adj_y": adj_y})[0]


def _to_blocks(rows: Rows, operation: Operation) -> List[int]:
    """SPACE_TO_BATCH_ND: its batches are blocks first, images after."""
    batch, *rest = rows.shape(operation.inputs[0])
    out = rows.shape(operation.outputs[0])
    flat = rows.reshaped(rows.only_first(operation), (rows.rows * batch, *rest))
    others = [rows.new[i] for i in operation.inputs[1:]]
    (made,) = rows.add(operation.name, [flat, *others], operation.options, 1, operation.version)
    return [rows.reshaped(_swapped(rows, made, out[0] // batch, rows.rows, (batch, *out[1:])), (rows.rows, *out))]


def _of_blocks(rows: Rows, operation: Operation) -> List[int]:
    batches, *rest = rows.shape(operation.inputs[0])
    out = rows.shape(operation.outputs[0])
    blocks = batches // out[0]
    x = _swapped(rows, rows.only_first(operation), rows.rows, blocks, (out[0], *rest))
    flat = rows.reshaped(x, (rows.rows * batches, *rest))
    others = [rows.new[i] for i in operation.inputs[1:]]
    (made,) = rows.add(operation.name, [flat, *others], operation.options, 1, operation.version)
    return [rows.reshaped(made, (rows.rows, *out))]


def _swapped(rows: Rows, new: int, first: int, second: int, rest: Tuple[int, ...]) -> int:
    """(first, second, *rest) as (second, first, *rest)."""
    numbers = size_of(rest)
    split = rows.reshaped(new, (first, second, numbers))
    return rows.add("TRANSPOSE", [split, rows.numbers([1, 0, 2])])[0]


def _nothing(rows: int) -> List[int]:
    return [0, 0]


_RULES: Dict[str, Give] = {
    **dict.fromkeys(
        [
            "ABS",
            "ELU",
            "EXP",
            "LEAKY_RELU",
            "LOG",
            "LOGICAL_NOT",
            "LOGISTIC",
            "NEG",
            "RELU",
            "RELU6",
            "RSQRT",
            "SQRT",
            "SQUARE",
            "TANH",
        ],
        each,
    ),
    **dict.fromkeys(
        [
            "ADD",
            "DIV",
            "EQUAL",
            "GREATER",
            "GREATER_EQUAL",
            "LESS",
            "LESS_EQUAL",
            "LOGICAL_AND",
            "LOGICAL_OR",
            "MAXIMUM",
            "MINIMUM",
            "MUL",
            "NOT_EQUAL",
            "SELECT_V2",
            "SQUARED_DIFFERENCE",
            "SUB",
        ],
        broadcast,
    ),
    **dict.fromkeys(("ADD_N", "SELECT"), alike),
    **dict.fromkeys(("LOG_SOFTMAX", "SOFTMAX"), _along_last),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_MIN", "SUM"), _reduced),
    **dict.fromkeys(("AVERAGE_POOL_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"), windows),
    **dict.fromkeys(("REVERSE_V2", "TRANSPOSE"), _turned),
    "BATCH_MATMUL": _matmul,
    "BATCH_TO_SPACE_ND": _of_blocks,
    "CAST": cast,
    "CONCATENATION": join_rule,
    "CONV_2D": convolution,
    "FULLY_CONNECTED": _dense,
    "ONE_HOT": _hot,
    "PACK": pack_rule,
    "PAD": pad_rule,
    "PADV2": _with(_nothing),
    "RESHAPE": _reshaped,
    "SLICE": slice_rule,
    "SPACE_TO_BATCH_ND": _to_blocks,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "STRIDED_SLICE": strided_rule,
    "TILE": _with(lambda rows: 1),
    "TRANSPOSE_CONV": spread_windows,
    "UNPACK": _unpacked,
}
"""By operator. Constants that say how it works are never of a record: `constant` and `only_first` refuse those."""
