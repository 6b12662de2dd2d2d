"""Convolutions and pools of many rows (node/graph_rows.py), for weights that are not known beforehand.

A runtime packs the weights of a convolution before it runs, where it knows them. A training graph's come with every call, and
its kernels for those take three times as long as its product of matrices. So windows are unfolded, and a convolution is one
product over all of them. What a graph unfolds for the gradient of a kernel is the same tensors, and made once.
"""

from typing import List, Sequence, Tuple

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import NoRuleError, Rows
from orchestrator.node.graph_row_parts import joined, padded, picked, sliced
from orchestrator.node.graph_shapes import size_of


def windows(rows: Rows, operation: Operation) -> List[int]:
    """Pools, and convolutions of each channel for itself: rows are further images of the batch."""
    batch, *rest = rows.shape(operation.inputs[0])
    flat = rows.reshaped(rows.only_first(operation), (rows.rows * batch, *rest))
    others = [rows.new[i] for i in operation.inputs[1:]]
    (made,) = rows.add(operation.name, [flat, *others], operation.options, 1, operation.version)
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
    x = padded(rows, x, [(0, 0), (0, 0), *zip(*padding), (0, 0)])
    parts = []
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            first = [place * apart for place, apart in zip((i, j), dilation)]
            if tuple(stride) == (1, 1):
                parts.append(sliced(rows, x, {2: (first[0], out[0]), 3: (first[1], out[1])}))
            else:
                part = picked(rows, x, 2, first[0], stride[0], out[0])
                parts.append(picked(rows, part, 3, first[1], stride[1], out[1]))
    lines = joined(rows, parts, 4) if len(parts) > 1 else parts[0]
    shape = rows.tensors[lines].shape
    return rows.reshaped(lines, (rows.rows, size_of(shape[1:4]), shape[4]))
