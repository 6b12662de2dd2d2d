"""Parts of tensors with rows (node/graph_rows.py): cut out, padded, put together. Axes of one place are left out.

A runtime copies a tensor to give it another shape, so what is reshaped is left until an operator wants it (`Rows.reshaped`), and
operators are given the fewest axes they can do with, in which one fits the next.
"""

from typing import List, Mapping, Sequence, Tuple

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import Rows
from orchestrator.node.graph_shapes import Shape, size_of

_FEW = 4
"""From so many parts of one number each on it is faster to join them in whole lines and turn the result."""


def sliced(rows: Rows, x: int, parts: Mapping[int, Tuple[int, int]]) -> int:
    """A part of a new tensor. parts: by axis, where it begins and how long it is; other axes are whole."""
    shape = rows.tensors[x].shape
    out = tuple(parts.get(axis, (0, n))[1] for axis, n in enumerate(shape))
    if out == shape:
        return x
    kept = _kept(shape)
    begin = [parts.get(axis, (0, 0))[0] for axis in kept]
    numbers = rows.numbers(begin), rows.numbers([out[axis] for axis in kept])
    (made,) = rows.add("SLICE", [_lean(rows, x, kept), *numbers])
    return rows.reshaped(made, out)


def picked(rows: Rows, x: int, axis: int, first: int, step: int, count: int) -> int:
    """`count` places of one axis of a new tensor, every `step`th from `first` on."""
    if step == 1:
        return sliced(rows, x, {axis: (first, count)})
    shape = rows.tensors[x].shape
    before, behind = size_of(shape[:axis]), size_of(shape[axis + 1 :])
    # As a piece of the axis split in two, which is copied many times faster.
    start = min(first, shape[axis] - count * step)
    if start < 0 or first - start >= step:
        start, widths = first, [(0, 0)] * len(shape)
        widths[axis] = (0, first + count * step - shape[axis])
        x = padded(rows, x, widths)
    x = sliced(rows, x, {axis: (start, count * step)})
    found = sliced(rows, rows.reshaped(x, (before, count, step, behind)), {2: (first - start, 1)})
    return rows.reshaped(found, (*shape[:axis], count, *shape[axis + 1 :]))


def padded(rows: Rows, x: int, widths: Sequence[Sequence[int]]) -> int:
    """With zeros before and behind, by axis. Each axis in one with those behind it: a runtime pads the last many times faster."""
    out = list(rows.tensors[x].shape)
    for axis in range(len(out) - 1, 0, -1):
        first, last = widths[axis]
        if first or last:
            before, behind = size_of(tuple(out[:axis])), size_of(tuple(out[axis + 1 :]))
            flat = rows.reshaped(x, (before, out[axis] * behind))
            (x,) = rows.add("PAD", [flat, rows.numbers([[0, 0], [first * behind, last * behind]])])
            out[axis] += first + last
    return rows.reshaped(x, out)


def joined(rows: Rows, parts: Sequence[int], axis: int) -> int:
    """New tensors one behind the other on an axis."""
    shapes = [rows.tensors[part].shape for part in parts]
    out = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    before = out[1:axis]
    if len(parts) >= _FEW and size_of(out) == rows.rows * size_of(before) * len(parts):
        lines = [rows.reshaped(part, (rows.rows, size_of(before))) for part in parts]
        (made,) = rows.add("CONCATENATION", lines, {"axis": 1})
        made = rows.reshaped(made, (rows.rows, len(parts), size_of(before)))
        (made,) = rows.add("TRANSPOSE", [made, rows.numbers([0, 2, 1])])
        return rows.reshaped(made, out)
    kept = [at for at, n in enumerate(out) if n != 1 or at in (0, axis)]
    (made,) = rows.add("CONCATENATION", [_lean(rows, part, kept) for part in parts], {"axis": kept.index(axis)})
    return rows.reshaped(made, out)


def slice_rule(rows: Rows, operation: Operation) -> List[int]:
    begin, out = rows.constant(operation.inputs[1]), rows.shape(operation.outputs[0])
    where = {axis + 1: (int(first), n) for axis, (first, n) in enumerate(zip(begin, out))}
    return [sliced(rows, rows.only_first(operation), where)]


def strided_rule(rows: Rows, operation: Operation) -> List[int]:
    """Axes one by one, where that fits."""
    shape, out = rows.shape(operation.inputs[0]), rows.shape(operation.outputs[0])
    begin, _, steps = (rows.constant(index) for index in operation.inputs[1:])
    options, x = operation.options, rows.only_first(operation)
    alone = [axis for axis in range(len(shape)) if options["shrink_axis_mask"] >> axis & 1]
    counts = list(out)
    for axis in alone:
        counts.insert(axis, 1)
    first = [
        0 if options["begin_mask"] >> axis & 1 else int(place) % n for axis, (place, n) in enumerate(zip(begin, shape))
    ]
    even = [axis for axis in range(len(shape)) if steps[axis] == 1 or axis in alone]
    x = sliced(rows, x, {axis + 1: (first[axis], counts[axis]) for axis in even})
    for axis in range(len(shape)):
        if axis not in even:
            x = picked(rows, x, axis + 1, first[axis], int(steps[axis]), counts[axis])
    return [rows.reshaped(x, (rows.rows, *out))]


def pad_rule(rows: Rows, operation: Operation) -> List[int]:
    widths = rows.constant(operation.inputs[1]).tolist()
    return [padded(rows, rows.only_first(operation), [(0, 0), *widths])]


def join_rule(rows: Rows, operation: Operation) -> List[int]:
    axis = operation.options["axis"] % len(rows.shape(operation.outputs[0])) + 1
    return [joined(rows, [rows.spread(i) for i in operation.inputs], axis)]


def pack_rule(rows: Rows, operation: Operation) -> List[int]:
    """PACK: parts get an axis of one place, and are joined on it."""
    out = rows.shape(operation.outputs[0])
    axis = operation.options["axis"] % len(out) + 1
    parts = [rows.spread(i) for i in operation.inputs]
    shape = rows.tensors[parts[0]].shape
    return [joined(rows, [rows.reshaped(part, (*shape[:axis], 1, *shape[axis:])) for part in parts], axis)]


def _kept(shape: Shape) -> List[int]:
    return [axis for axis, n in enumerate(shape) if n != 1 or axis == 0]


def _lean(rows: Rows, x: int, kept: Sequence[int]) -> int:
    shape = rows.tensors[x].shape
    return rows.reshaped(x, [shape[axis] for axis in kept])
