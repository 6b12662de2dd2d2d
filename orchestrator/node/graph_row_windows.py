"""Convolutions and pools of many rows (node/graph_rows.py), for weights that are not known beforehand.

A runtime packs the weights of a convolution before it runs, where it knows them. A training graph's come with every call, and
its kernels for those take three times as long as its product of matrices. So windows are unfolded, and a convolution is one
product over all of them. What a graph unfolds for the gradient of a kernel is the same tensors, and made once.
"""

from typing import List, Sequence, Tuple

import numpy as np

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import NoRuleError, Rows
from orchestrator.node.graph_row_parts import joined, padded, picked
from orchestrator.node.graph_shapes import size_of

COPIED_NUMBERS = 32
"""Of a window that a convolution copies, at most: it multiplies each with each."""


def windows(rows: Rows, operation: Operation) -> List[int]:
    """Pools, and convolutions of each channel for itself: rows are further images of the batch."""
    batch, *rest = rows.shape(operation.inputs[0])
    scaled = _scaled(rows, operation)
    if scaled:
        return scaled
    flat = rows.reshaped(rows.only_first(operation), (rows.rows * batch, *rest))
    others = [rows.new[i] for i in operation.inputs[1:]]
    (made,) = rows.add(operation.name, [flat, *others], operation.options, 1, operation.version)
    return [rows.reshaped(made, (rows.rows, *rows.shape(operation.outputs[0])))]


def _scaled(rows: Rows, operation: Operation) -> List[int]:
    """A convolution of each channel for itself by one number, as a product; an empty list if it is something else."""
    if operation.name != "DEPTHWISE_CONV_2D":
        return []
    x, kernel, *bias = operation.inputs
    options, shape = operation.options, rows.shape(operation.outputs[0])
    one_each = shape == rows.shape(x) and size_of(rows.shape(kernel)) == shape[-1]
    if not one_each or options["activation"] or not all(rows.is_zero(index) for index in bias):
        return []
    given = rows.unshaped(rows.only_first(operation))
    if rows.tensors[given].shape[-1] != shape[-1]:
        given = rows.only_first(operation)
    (made,) = rows.add("MUL", [given, repeated(rows, rows.new[kernel], rows.tensors[given].shape)])
    return [rows.reshaped(made, (rows.rows, *shape))]


def repeated(rows: Rows, new: int, shape: Sequence[int]) -> int:
    """Numbers of the last axis of tensors in this shape, in long lines: kernels go from line to line, however short they are."""
    first = len(shape) - 1
    while first > 1 and size_of(tuple(shape[first:])) < _LONG:
        first -= 1
    line = rows.reshaped(new, (*[1] * (len(shape) - first - 1), shape[-1]))
    return rows.add("TILE", [line, rows.numbers([*shape[first:-1], 1])])[0] if first < len(shape) - 1 else line


_LONG = 64


def biased(rows: Rows, operation: Operation) -> List[int]:
    """ADD of a bias to a convolution of each channel for itself, in that one operator; an empty list if it is something else."""
    if operation.name != "ADD" or not rows.is_rowed(operation.inputs[0]) or rows.is_rowed(operation.inputs[1]):
        return []
    x, bias = (rows.new[index] for index in operation.inputs)
    maker = rows.maker(rows.unshaped(x))
    if maker is None or maker.name != "DEPTHWISE_CONV_2D" or maker.options["activation"]:
        return []
    zeros = rows.tensors[maker.inputs[2]] if len(maker.inputs) > 2 else None
    if zeros is None or zeros.data is None or zeros.data.any() or rows.tensors[bias].shape != zeros.shape:
        return []
    options = {**maker.options, "activation": operation.options["activation"]}
    (made,) = rows.add(maker.name, [*maker.inputs[:2], bias], options, 1, maker.version)
    return [rows.reshaped(made, (rows.rows, *rows.shape(operation.outputs[0])))]


def convolution(rows: Rows, operation: Operation) -> List[int]:
    x, kernel, *bias = operation.inputs
    _, height, width, channels = rows.shape(x)
    filters, *sizes, _ = rows.shape(kernel)
    out = rows.shape(operation.outputs[0])
    options = operation.options
    if rows.old.tensors[kernel].data is not None:
        return windows(rows, operation)
    before, after = [], []
    for size, k, count, axis in zip((height, width), sizes, out[1:3], "hw"):
        reach = (k - 1) * options[f"dilation_{axis}"] + 1
        missing = max(0, (count - 1) * options[f"stride_{axis}"] + reach - size) if options["padding"] == 0 else 0
        before.append(missing // 2)
        after.append(missing - missing // 2)
    given = rows.only_first(operation)
    stride, dilation = (tuple(options[f"{what}_{axis}"] for axis in "hw") for what in ("stride", "dilation"))
    columns = _unfolded(rows, given, (before, after), sizes, stride, dilation, out[1:3])
    factor = rows.reshaped(rows.new[kernel], (filters, size_of(tuple(sizes)) * channels))
    (made,) = rows.add("BATCH_MATMUL", [columns, factor], {"adj_y": True})
    return [rows.reshaped(added(rows, operation, made, bias), (rows.rows, *out))]


def added(rows: Rows, operation: Operation, made: int, bias: Sequence[int]) -> int:
    """A product with the bias and activation its operator has beside."""
    activation, given = operation.options["activation"], [index for index in bias if index >= 0]
    if any(rows.is_rowed(index) for index in given):
        raise NoRuleError("a bias of the record")
    if given and (activation or not rows.is_zero(given[0])):
        return rows.add("ADD", [made, rows.new[given[0]]], {"activation": activation})[0]
    if activation:
        raise NoRuleError("an activation without a bias")
    return made


def spread_windows(rows: Rows, operation: Operation) -> List[int]:
    """TRANSPOSE_CONV. With strides of 1 it is a convolution with the kernel turned around."""
    target, kernel, x, *bias = operation.inputs
    batch, height, width, channels = rows.shape(x)
    filters, *sizes, _ = rows.shape(kernel)
    out = rows.shape(operation.outputs[0])
    options = operation.options
    given = rows.only_first(operation, 2)
    if (options["stride_h"], options["stride_w"]) == (1, 1) and not options["activation"] and not bias:
        first = [(k - 1) // 2 if options["padding"] == 0 else 0 for k in sizes]
        before = [k - 1 - start for k, start in zip(sizes, first)]
        after = [o + k - 1 - n - b for o, k, n, b in zip(out[1:3], sizes, (height, width), before)]
        turned = rows.new[kernel]
        for axis in (1, 2):
            if sizes[axis - 1] > 1:
                (turned,) = rows.add("REVERSE_V2", [turned, rows.numbers([axis])])
        columns = _unfolded(rows, given, (before, after), sizes, (1, 1), (1, 1), out[1:3])
        factor = rows.reshaped(turned, (filters, size_of(tuple(sizes)) * channels))
        (made,) = rows.add("BATCH_MATMUL", [columns, factor], {"adj_y": True})
        return [rows.reshaped(made, (rows.rows, *out))]
    flat = rows.reshaped(given, (rows.rows * batch, height, width, channels))
    first, *rest = rows.constant(target).tolist()
    inputs = [rows.numbers([rows.rows * first, *rest]), rows.new[kernel], flat, *[rows.new[i] for i in bias]]
    (made,) = rows.add(operation.name, inputs, options, 1, operation.version)
    return [rows.reshaped(made, (rows.rows, *out))]


def _unfolded(
    rows: Rows,
    x: int,
    padding: Tuple[Sequence[int], Sequence[int]],
    sizes: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    out: Sequence[int],
) -> int:
    """Every window of (rows, batch, height, width, channels) as a line: (rows, windows, numbers of each)."""
    given, x = x, padded(rows, x, [(0, 0), (0, 0), *zip(*padding), (0, 0)])
    parts = []
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            first = [place * apart for place, apart in zip((i, j), dilation)]
            parts.append(picked(rows, x, {axis: (first[axis - 2], stride[axis - 2], out[axis - 2]) for axis in (2, 3)}))
    shape = rows.tensors[parts[0]].shape
    lines = (rows.rows, size_of(shape[1:4]), len(parts) * shape[4])
    if lines[2] <= COPIED_NUMBERS and len(parts) > 1:
        same = all(
            tuple(p) == _same(n, k, s, d, o)
            for n, k, s, d, o, p in zip(rows.tensors[given].shape[2:4], sizes, stride, dilation, out, zip(*padding))
        )
        made = _copied(rows, given if same else x, sizes, stride, dilation, same)
        rows.joined[tuple(parts), 4] = rows.reshaped(made, (*shape[:4], lines[2]))
    return rows.reshaped(joined(rows, parts, 4) if len(parts) > 1 else parts[0], lines)


def _same(size: int, kernel: int, stride: int, dilation: int, out: int) -> Tuple[int, int]:
    """Zeros before and behind that padding SAME adds on one axis."""
    missing = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size) if out == -(-size // stride) else -1
    return missing // 2, missing - missing // 2


def _copied(
    rows: Rows, x: int, sizes: Sequence[int], stride: Sequence[int], dilation: Sequence[int], same: bool
) -> int:
    """Windows of few numbers, by a convolution that copies each: its weights are known beforehand, and 0 and 1."""
    *_, height, width, channels = rows.tensors[x].shape
    numbers = size_of(tuple(sizes)) * channels
    copying = np.eye(numbers, dtype="<f4").reshape(numbers, *sizes, channels)
    inputs = [
        rows.reshaped(x, (size_of(rows.tensors[x].shape[:2]), height, width, channels)),
        rows.floats(copying),
        rows.floats(np.zeros(numbers, "<f4")),
    ]
    options = {"padding": 0 if same else 1, "stride_h": stride[0], "stride_w": stride[1]}
    return rows.add("CONV_2D", inputs, {**options, "dilation_h": dilation[0], "dilation_w": dilation[1]})[0]
