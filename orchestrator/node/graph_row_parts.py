"""Parts of tensors with rows (node/graph_rows.py): cut out, padded, put together. Axes of one place are left out.

A runtime copies a tensor to give it another shape, so what is reshaped is left until an operator wants it (`Rows.reshaped`), and
operators are given the fewest axes they can do with, in which one fits the next.
"""

from typing import List, Mapping, Sequence, Tuple

from orchestrator.node.graph_file import Operation
from orchestrator.node.graph_rewriting import Pick, Rows
from orchestrator.node.graph_row_kernels import kernel_gradient
from orchestrator.node.graph_shapes import Shape, size_of

_FEW = 4
"""From so many parts of one number each on it is faster to join them in whole lines and turn the result."""


def sliced(rows: Rows, x: int, parts: Mapping[int, Tuple[int, int]]) -> int:
    """A part of a new tensor. parts: by axis, where it begins and how long it is; other axes are whole."""
    shape = rows.tensors[x].shape
    out = tuple(parts.get(axis, (0, n))[1] for axis, n in enumerate(shape))
    if out == shape:
        return x
    source, widths = rows.padded.get(x, (x, [(0, 0)] * len(shape)))
    if out == rows.tensors[source].shape and all(parts.get(axis, (0, 0))[0] == w[0] for axis, w in enumerate(widths)):
        return source  # what was padded
    kept = [axis for axis, n in enumerate(shape) if n != 1 or axis == 0]
    begin = [parts.get(axis, (0, 0))[0] for axis in kept]
    x = rows.reshaped(x, [shape[axis] for axis in kept])
    (made,) = rows.add("SLICE", [x, rows.numbers(begin), rows.numbers([out[axis] for axis in kept])])
    return rows.reshaped(made, out)


def picked(rows: Rows, x: int, places: Mapping[int, Tuple[int, int, int]]) -> int:
    """Some places of a new tensor's axes. places: by axis, the first of them, how far one is from the next, and how many.

    Places that are a step apart are put beside each other first, of the whole tensor at once: others of the same graph begin a
    place later, and all of them are then one piece of it.
    """
    given, shape = x, rows.tensors[x].shape
    apart = {axis: place for axis, place in places.items() if place[1] > 1 and place[2] > 1}
    lines = {axis: max(-(-shape[axis] // step), first // step + count) for axis, (first, step, count) in apart.items()}
    x = padded(rows, x, [(0, lines[axis] * apart[axis][1] - n if axis in apart else 0) for axis, n in enumerate(shape)])
    neighbours = len(apart) == _TOGETHER and max(apart) - min(apart) == 1
    for axes in [list(apart)] if neighbours else [[axis] for axis in apart]:
        x = _sorted(rows, x, {axis: apart[axis][1] for axis in axes})
    parts = {axis: (first, count) for axis, (first, step, count) in places.items()}
    parts.update(
        {axis: (first % step * lines[axis] + first // step, count) for axis, (first, step, count) in apart.items()}
    )
    found = sliced(rows, x, parts)
    whole = {axis: (0, 1, n) for axis, n in enumerate(shape)}
    if apart and len(shape) == 5 and all(places.get(axis, whole[axis]) == whole[axis] for axis in (1, 4)):
        rows.picks[rows.unshaped(found)] = Pick(given, (places[2], places[3]))
    return found


_TOGETHER = 2
"""Neighbouring axes that are sorted at once: each is split in two, and runtimes transpose up to 6 with those around them."""


def _sorted(rows: Rows, x: int, steps: Mapping[int, int]) -> int:
    """A new tensor with places of some axes in another order: every step-th from the first on, then from the second, ..."""
    shape = rows.tensors[x].shape
    split: List[int] = []
    order: List[int] = []
    for axis, end in _groups(shape, sorted({*steps, *(axis + 1 for axis in steps if axis + 1 < len(shape))})):
        order.append(len(split))
        if axis in steps:
            order = [*order[:-1], len(split) + 1, len(split)]
            split += [shape[axis] // steps[axis], steps[axis]]
        else:
            split.append(size_of(shape[axis:end]))
    kept = [place for place, n in enumerate(split) if n != 1 or place == 0]
    x = rows.reshaped(x, [split[place] for place in kept])
    (made,) = rows.add("TRANSPOSE", [x, rows.numbers([kept.index(place) for place in order if place in kept])])
    return rows.reshaped(made, shape)


def padded(rows: Rows, x: int, widths: Sequence[Sequence[int]]) -> int:
    """With zeros before and behind, by axis. What was padded already is padded from what it was before."""
    out = tuple(first + n + last for n, (first, last) in zip(rows.tensors[x].shape, widths))
    if out == rows.tensors[x].shape:
        return x
    if x in rows.padded:
        x, earlier = rows.padded[x]
        widths = [(first + more, last + most) for (first, last), (more, most) in zip(earlier, widths)]
    shape = rows.tensors[x].shape
    groups = _groups(shape, [axis for axis, n in enumerate(shape) if out[axis] != n])
    wide = [[width * size_of(shape[axis + 1 : end]) for width in widths[axis]] for axis, end in groups]
    (made,) = rows.add("PAD", [_grouped(rows, x, groups), rows.numbers(wide)])
    made = rows.reshaped(made, out)
    rows.padded[made] = x, widths
    return made


def joined(rows: Rows, parts: Sequence[int], axis: int) -> int:
    """New tensors one behind the other on an axis."""
    if (tuple(parts), axis) in rows.joined:
        return rows.joined[tuple(parts), axis]
    shapes = [rows.tensors[part].shape for part in parts]
    out = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    before = out[1:axis]
    at_once = kernel_gradient(rows, parts) if size_of(before) == 1 and len(parts) > 1 else None
    if at_once is not None:
        return rows.reshaped(at_once, out)
    if len(parts) >= _FEW and size_of(out) == rows.rows * size_of(before) * len(parts):
        lines = [rows.reshaped(part, (rows.rows, size_of(before))) for part in parts]
        (made,) = rows.add("CONCATENATION", lines, {"axis": 1})
        made = rows.reshaped(made, (rows.rows, len(parts), size_of(before)))
        (made,) = rows.add("TRANSPOSE", [made, rows.numbers([0, 2, 1])])
        return rows.reshaped(made, out)
    lines, at = [rows.unshaped(part) for part in parts], 0
    first, *others = {rows.tensors[line].shape for line in lines}
    if len(set(shapes)) == 1 and not others:  # in the shape they have already, if one of its axes is there to join on
        at = next((at for at in range(1, len(first)) if size_of(first[at:]) == size_of(shapes[0][axis:])), 0)
    if not at:
        groups = _groups(out, [axis])
        lines, at = [_grouped(rows, part, groups) for part in parts], len(groups) - 1
    (made,) = rows.add("CONCATENATION", lines, {"axis": at})
    return rows.reshaped(made, out)


def slice_rule(rows: Rows, operation: Operation) -> List[int]:
    begin, out = rows.constant(operation.inputs[1]), rows.shape(operation.outputs[0])
    where = {axis + 1: (int(first), n) for axis, (first, n) in enumerate(zip(begin, out))}
    return [sliced(rows, rows.only_first(operation), where)]


def strided_rule(rows: Rows, operation: Operation) -> List[int]:
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
    apart = [1 if axis in alone else int(steps[axis]) for axis in range(len(shape))]
    x = picked(rows, x, {axis + 1: (first[axis], apart[axis], counts[axis]) for axis in range(len(shape))})
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


def _groups(shape: Shape, changed: Sequence[int]) -> List[Tuple[int, int]]:
    """Axes as (first, end): each of those that change in one with those behind it that stay as they are."""
    starts = sorted({0, *changed})
    return list(zip(starts, [*starts[1:], len(shape)]))


def _grouped(rows: Rows, x: int, groups: Sequence[Tuple[int, int]]) -> int:
    shape = rows.tensors[x].shape
    return rows.reshaped(x, [size_of(shape[axis:end]) for axis, end in groups])
