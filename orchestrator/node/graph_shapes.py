"""What shapes an operator gives for what it takes, and what it must not be given.

Whatever decides a shape (axes, paddings, sizes) must be a constant of the file, so every shape is known, and checked, before
anything runs. Ranks are those TensorFlow Lite's kernels handle: some of them check theirs only in debug builds.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.errors import GraphError

Shape = Tuple[int, ...]
FLOAT, INT, BOOL = "float32", "int32", "bool"
MAX_REACH = 1 << 20  # of a window over one axis; above, TensorFlow Lite's 32-bit sums could overflow


class Known(NamedTuple):
    """What is known of a tensor before anything runs. data: of a constant."""

    dtype: str
    shape: Shape
    data: Optional[np.ndarray] = None


class Call(NamedTuple):
    """One operator of a graph. inputs: None where an optional one is left out."""

    inputs: Sequence[Optional[Known]]
    options: Dict[str, Any]
    outputs: int


Infer = Callable[[Call], List[Known]]


def require(holds: bool, text: str) -> None:
    if not holds:
        raise GraphError(text)


def size_of(shape: Shape) -> int:
    """Elements of a tensor."""
    total = 1
    for n in shape:
        total *= n
    return total


def operands(call: Call, *dtypes: str, least: Optional[int] = None) -> List[Known]:
    """The inputs, checked to be there with these types; those from `least` on may be left out."""
    given = list(call.inputs)
    while given and given[-1] is None:
        given.pop()
    low = len(dtypes) if least is None else least
    require(low <= len(given) <= len(dtypes), f"{len(given)} inputs, expected {low} to {len(dtypes)}")
    found: List[Known] = []
    for known, dtype in zip(given, dtypes):
        if known is None:
            raise GraphError("an input is left out")
        require(known.dtype == dtype, f"an input of {known.dtype}, expected {dtype}")
        found.append(known)
    return found


def series(call: Call, dtype: str = FLOAT) -> List[Known]:
    """All inputs, however many, of one type."""
    require(len(call.inputs) > 0, "no inputs")
    return operands(call, *[dtype] * len(call.inputs))


def constant(known: Known, shape: Optional[Shape] = None) -> List[int]:
    """The numbers of a constant int32 input; shape: what it must have, otherwise rank 0 or 1."""
    if known.data is None:
        raise GraphError("an axis, shape or padding is computed, not constant")
    fits = len(known.shape) <= 1 if shape is None else known.shape == shape
    require(fits, f"a constant of shape {known.shape}" + (f", expected {shape}" if shape is not None else ""))
    return [int(v) for v in np.asarray(known.data).ravel()]


def axis_of(axis: int, rank: int) -> int:
    require(-rank <= axis < rank, f"axis {axis} of {rank}")
    return axis % rank


def broadcast(shapes: Sequence[Shape], most: int) -> Shape:
    """The shape equal shapes have, or others with 1s where they differ, up to rank `most`."""
    if len(set(shapes)) == 1:
        return shapes[0]
    rank = max(len(shape) for shape in shapes)
    require(rank <= most, f"shapes that differ have rank {rank}, at most {most} is accepted")
    out: List[int] = []
    for sizes in zip(*[(1,) * (rank - len(shape)) + shape for shape in shapes]):
        wide = {n for n in sizes if n != 1}
        require(len(wide) <= 1, f"shapes {' and '.join(map(str, shapes))} do not go together")
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def float_of(shape: Sequence[int]) -> List[Known]:
    return [Known(FLOAT, tuple(shape))]


def same(call: Call) -> List[Known]:
    (x,) = operands(call, FLOAT)
    return float_of(x.shape)


def along_last(call: Call) -> List[Known]:
    (x,) = operands(call, FLOAT)
    require(1 <= len(x.shape) <= 4, f"rank {len(x.shape)}, expected 1 to 4")
    return float_of(x.shape)


def pairwise(dtype: str, result: str, most: int) -> Infer:
    def infer(call: Call) -> List[Known]:
        return [Known(result, broadcast([known.shape for known in operands(call, dtype, dtype)], most))]

    return infer


def logical_not(call: Call) -> List[Known]:
    (x,) = operands(call, BOOL)
    return [Known(BOOL, x.shape)]


def select(call: Call) -> List[Known]:
    condition, x, y = operands(call, BOOL, FLOAT, FLOAT)
    require(condition.shape == x.shape == y.shape, "SELECT of shapes that differ")
    return float_of(x.shape)


def select_v2(call: Call) -> List[Known]:
    return float_of(broadcast([known.shape for known in operands(call, BOOL, FLOAT, FLOAT)], 4))


def cast(call: Call) -> List[Known]:
    require(len(call.inputs) == 1 and call.inputs[0] is not None, "a cast of one tensor was expected")
    (x,) = operands(call, call.inputs[0].dtype if call.inputs[0] else BOOL)
    require(x.dtype in (BOOL, INT), f"a cast from {x.dtype}; accepted is from bool or int32 to float32")
    return float_of(x.shape)


def add_n(call: Call) -> List[Known]:
    terms = series(call)
    require(len({known.shape for known in terms}) == 1, "terms of different shapes")
    return float_of(terms[0].shape)


def concatenation(call: Call) -> List[Known]:
    parts = series(call)
    rank = len(parts[0].shape)
    axis = axis_of(call.options["axis"], rank)
    require(all(len(part.shape) == rank for part in parts), "parts of different ranks")
    rest = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts}
    require(len(rest) == 1, "parts that differ beside their axis")
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return float_of(shape)


def pack(call: Call) -> List[Known]:
    parts = series(call)
    require(call.options["count"] == len(parts), "another number of parts than it says")
    require(len({part.shape for part in parts}) == 1, "parts of different shapes")
    axis = axis_of(call.options["axis"], len(parts[0].shape) + 1)
    shape = parts[0].shape
    return float_of((*shape[:axis], len(parts), *shape[axis:]))


def unpack(call: Call) -> List[Known]:
    (x,) = operands(call, FLOAT)
    axis = axis_of(call.options["axis"], len(x.shape))
    require(call.options["count"] == x.shape[axis] == call.outputs, "another number of parts than it says")
    return [Known(FLOAT, x.shape[:axis] + x.shape[axis + 1 :])] * call.outputs


def split(call: Call) -> List[Known]:
    where, x = operands(call, INT, FLOAT)
    axis = _one_axis(where, x)
    require(call.options["count"] == call.outputs and x.shape[axis] % call.outputs == 0, "parts of different sizes")
    return _parts(x, axis, [x.shape[axis] // call.outputs] * call.outputs)


def split_v(call: Call) -> List[Known]:
    x, lengths, where = operands(call, FLOAT, INT, INT)
    axis, sizes = _one_axis(where, x), constant(lengths, (call.outputs,))
    require(call.options["count"] == call.outputs, "another number of parts than it says")
    require(min(sizes) >= 1 and sum(sizes) == x.shape[axis], f"parts {sizes} of {x.shape[axis]}")
    return _parts(x, axis, sizes)


def _one_axis(where: Known, x: Known) -> int:
    axes = constant(where)
    require(len(axes) == 1, "one axis was expected")
    return axis_of(axes[0], len(x.shape))


def _parts(x: Known, axis: int, sizes: Sequence[int]) -> List[Known]:
    return [Known(FLOAT, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes]


def slice_(call: Call) -> List[Known]:
    x, begin, size = operands(call, FLOAT, INT, INT)
    rank = len(x.shape)
    require(1 <= rank <= 5, f"rank {rank}, expected 1 to 5")
    shape = []
    for n, start, length in zip(x.shape, constant(begin, (rank,)), constant(size, (rank,))):
        length = n - start if length == -1 else length
        require(0 <= start < n and 1 <= length <= n - start, f"{length} from {start} on of {n}")
        shape.append(length)
    return float_of(shape)


def strided_slice(call: Call) -> List[Known]:
    x, *bounds = operands(call, FLOAT, INT, INT, INT)
    rank = len(x.shape)
    require(1 <= rank <= 5, f"rank {rank}, expected 1 to 5")
    shape = []
    for axis, (n, begin, end, step) in enumerate(zip(x.shape, *[constant(bound, (rank,)) for bound in bounds])):
        begin = 0 if call.options["begin_mask"] >> axis & 1 else begin + n * (begin < 0)
        end = n if call.options["end_mask"] >> axis & 1 else end + n * (end < 0)
        alone = call.options["shrink_axis_mask"] >> axis & 1
        end = begin + 1 if alone else end
        require(step >= 1 and 0 <= begin < end <= n, f"{begin} to {end} in steps of {step} of {n}")
        shape += [] if alone else [-(-(end - begin) // step)]
    return float_of(shape)


def pad(call: Call) -> List[Known]:
    x, paddings = operands(call, FLOAT, INT)
    return _padded(x, paddings)


def pad_v2(call: Call) -> List[Known]:
    x, paddings, value = operands(call, FLOAT, INT, FLOAT)
    require(size_of(value.shape) == 1, "one value to pad with was expected")
    return _padded(x, paddings)


def _padded(x: Known, paddings: Known) -> List[Known]:
    rank = len(x.shape)
    require(1 <= rank <= 5, f"rank {rank}, expected 1 to 5")
    widths = constant(paddings, (rank, 2))
    require(all(0 <= width <= MAX_REACH for width in widths), "a padding below 0 or too wide")
    return float_of([n + widths[2 * i] + widths[2 * i + 1] for i, n in enumerate(x.shape)])


def transpose(call: Call) -> List[Known]:
    x, order = operands(call, FLOAT, INT)
    rank = len(x.shape)
    require(1 <= rank <= 6, f"rank {rank}, expected 1 to 6")
    axes = constant(order, (rank,))
    require(sorted(axes) == list(range(rank)), f"axes {axes} are no order of {rank}")
    return float_of([x.shape[axis] for axis in axes])


def reverse(call: Call) -> List[Known]:
    x, where = operands(call, FLOAT, INT)
    require(where.shape == (1,), "one axis was expected: older runtimes reverse no more")
    axis_of(constant(where)[0], len(x.shape))
    return float_of(x.shape)


def tile(call: Call) -> List[Known]:
    x, multiples = operands(call, FLOAT, INT)
    times = constant(multiples, (len(x.shape),))
    require(all(1 <= count <= MAX_REACH for count in times), "a number of copies below 1 or too large")
    return float_of([n * count for n, count in zip(x.shape, times)])


def reshape(call: Call) -> List[Known]:
    require(len(call.inputs) == 2 and call.inputs[0] is not None, "two inputs were expected")
    dtype = call.inputs[0].dtype if call.inputs[0] else FLOAT
    x, target = operands(call, dtype, INT)
    require(len(target.shape) == 1, "a shape of rank 1 was expected")
    wanted = constant(target)
    require(wanted.count(-1) <= 1 and all(n == -1 or n >= 1 for n in wanted), f"shape {wanted}")
    fixed, total = size_of(tuple(n for n in wanted if n != -1)), size_of(x.shape)
    require(total % fixed == 0 if -1 in wanted else total == fixed, f"shape {wanted} for {total} elements")
    return [Known(dtype, tuple(total // fixed if n == -1 else n for n in wanted))]


def reduction(call: Call) -> List[Known]:
    x, where = operands(call, FLOAT, INT)
    rank = len(x.shape)
    axes = [axis_of(axis, rank) for axis in constant(where)]
    require(len(set(axes)) == len(axes), "an axis occurs twice")
    if call.options["keep_dims"]:
        return float_of([1 if i in axes else n for i, n in enumerate(x.shape)])
    return float_of([n for i, n in enumerate(x.shape) if i not in axes])


def one_hot(call: Call) -> List[Known]:
    indices, depth, on, off = operands(call, INT, INT, FLOAT, FLOAT)
    width = constant(depth, ())[0]
    require(1 <= width <= MAX_REACH and on.shape == off.shape == (), "a depth below 1, or values that are no scalars")
    axis = axis_of(call.options["axis"], len(indices.shape) + 1)
    return float_of((*indices.shape[:axis], width, *indices.shape[axis:]))


def fully_connected(call: Call) -> List[Known]:
    x, kernel, *bias = operands(call, FLOAT, FLOAT, FLOAT, least=2)
    require(len(x.shape) >= 1 and len(kernel.shape) == 2, "a kernel of rank 2 was expected")
    units, width = kernel.shape
    require(not bias or bias[0].shape == (units,), "a bias of another size than the output")
    if call.options["keep_num_dims"]:
        require(x.shape[-1] == width, f"a kernel of {width} inputs for {x.shape[-1]}")
        return float_of((*x.shape[:-1], units))
    require(size_of(x.shape) % width == 0, f"a kernel of {width} inputs for {size_of(x.shape)} elements")
    return float_of((size_of(x.shape) // width, units))


def batch_matmul(call: Call) -> List[Known]:
    a, b = operands(call, FLOAT, FLOAT)
    require(2 <= len(a.shape) <= 4 and 2 <= len(b.shape) <= 4, "ranks 2 to 4 were expected")
    rows, inner = a.shape[:-3:-1] if call.options["adj_x"] else a.shape[-2:]
    again, columns = b.shape[:-3:-1] if call.options["adj_y"] else b.shape[-2:]
    require(inner == again, f"a product over {inner} and {again}")
    return float_of((*broadcast([a.shape[:-2], b.shape[:-2]], 2), rows, columns))


def scratch_of(name: str, inputs: Sequence[Optional[Known]], outputs: Sequence[Known]) -> int:
    """Elements the kernel may need beside its inputs and outputs, at most: unfolded windows, transposed factors."""
    given = [known.shape for known in inputs if known is not None]
    if name == "CONV_2D":
        return size_of(outputs[0].shape[:3]) * size_of(given[1][1:]) + size_of(given[1])
    if name == "TRANSPOSE_CONV":
        return size_of(given[2][:3]) * size_of(given[1][:3]) + size_of(given[1])
    if name in ("BATCH_MATMUL", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
        return sum(size_of(shape) for shape in given)
    return size_of(outputs[0].shape)
