"""Operators of many rows that go number by number (node/graph_rows.py)."""

from typing import List, Sequence

import numpy as np

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import Rows
from orchestrator.node.graph_row_windows import biased, repeated
from orchestrator.node.graph_shapes import size_of

_MOST_AXES = 4
"""Of operators with broadcasting, which older runtimes have for no more."""

_LARGE, _ONE = np.array(2.0**127, "<f4"), np.array(1.0, "<f4")


def each(rows: Rows, operation: Operation) -> List[int]:
    """Of one input, number by number."""
    x = operation.inputs[0]
    (made,) = rows.add(operation.name, [rows.unshaped(rows.new[x])], operation.options, 1, operation.version)
    return [rows.reshaped(made, (rows.rows, *rows.shape(x)))]


def broadcast(rows: Rows, operation: Operation) -> List[int]:
    """Number by number with broadcasting."""
    out = rows.shape(operation.outputs[0])
    at_once = biased(rows, operation)
    if at_once:
        return at_once
    inputs = _of_whole(rows, operation, size_of(out)) or _of_lean(rows, operation, out)
    (made,) = rows.add(operation.name, inputs, operation.options, 1, operation.version)
    return [rows.reshaped(made, (rows.rows, *out))]


def _of_whole(rows: Rows, operation: Operation, size: int) -> List[int]:
    """Of tensors with rows that are as large as the output, and of few numbers without: in a shape one of the former has already.

    It is the last of those that fewest operators take: what many take is reshaped once for all of them, and of a gradient and a
    mask the mask has the shape its layer goes on in.
    """
    whole = [i for i in operation.inputs if rows.is_rowed(i) and size_of(rows.shape(i)) == size]
    shape = rows.tensors[rows.unshaped(rows.new[min(whole[::-1], key=rows.uses)])].shape if whole else ()
    if not 0 < len(shape) <= _MOST_AXES:
        return []
    inputs = []
    for index in operation.inputs:
        if index in whole:
            inputs.append(rows.reshaped(rows.new[index], shape))
        elif not rows.is_rowed(index) and size_of(rows.shape(index)) == 1:
            inputs.append(rows.reshaped(rows.new[index], ()))
        elif not rows.is_rowed(index) and rows.shape(index)[-1:] == shape[-1:] == (size_of(rows.shape(index)),):
            inputs.append(repeated(rows, rows.new[index], shape))
        else:
            return []
    return inputs


def _of_lean(rows: Rows, operation: Operation, out: Sequence[int]) -> List[int]:
    """Axes of one place are left out: kernels take few."""
    kept = [axis for axis, n in enumerate(out) if n != 1]
    inputs = []
    for index in operation.inputs:
        own = rows.shape(index)
        full = (1,) * (len(out) - len(own)) + own
        lean = [full[axis] for axis in kept]
        if rows.is_rowed(index):
            inputs.append(rows.reshaped(rows.new[index], (rows.rows, *lean)))
        else:
            few = size_of(own) == 1 and len(own) <= len(lean) + 1
            inputs.append(rows.new[index] if few else rows.reshaped(rows.new[index], lean))
    return inputs


def cast(rows: Rows, operation: Operation) -> List[int]:
    """CAST; of y > 0, for a y from a ReLU, as the smaller of 1 and a large multiple of y, which takes two thirds of the time.

    The multiple of the smallest normal number is 2. Subnormal numbers count as zero, as in the whole process
    (node/graph_child.py), or as little where a machine cannot flush them. Where y is NaN, the mask is NaN as well.
    """
    maker = rows.maker(rows.unshaped(rows.new[operation.inputs[0]]))
    if maker is not None and maker.name == "GREATER":
        y, bound = maker.inputs
        data, made_by = rows.tensors[bound].data, rows.maker(rows.unshaped(y))
        of_relu = made_by is not None and (made_by.name == "RELU" or made_by.options.get("activation") == 1)
        if data is not None and data.size == 1 and not data.any() and of_relu:
            (large,) = rows.add("MUL", [y, rows.floats(_LARGE)])
            (made,) = rows.add("MINIMUM", [large, rows.floats(_ONE)])
            return [rows.reshaped(made, (rows.rows, *rows.shape(operation.outputs[0])))]
    return each(rows, operation)


def alike(rows: Rows, operation: Operation) -> List[int]:
    """Number by number, of inputs that all have one shape."""
    return rows.add(operation.name, [rows.spread(i) for i in operation.inputs], operation.options, 1, operation.version)
