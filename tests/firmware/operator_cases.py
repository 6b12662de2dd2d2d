"""Models of one operator each, drawn at random over its options, shapes and quantization: more than any converter makes."""

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
from one_op_models import Part, options_of
from operator_draws import Case, Draw, Options, case_of


def _window(d: Draw, dilate: bool = True) -> Tuple[List[int], List[int], Dict[str, int], Tuple[int, int]]:
    """Input height and width, output height and width, options, kernel."""
    kernel = (int(d.rng.integers(1, 5)), int(d.rng.integers(1, 5)))
    strides = (int(d.pick(1, 1, 2, 3)), int(d.pick(1, 1, 2, 3)))
    dilation = (int(d.pick(1, 1, 2)), int(d.pick(1, 1, 2))) if dilate else (1, 1)
    same = bool(d.pick(True, False))
    into, out = [], []
    for k, s, t in zip(kernel, strides, dilation):
        span = (k - 1) * t + 1
        size = span + int(d.rng.integers(0, 6))
        into.append(size)
        out.append(-(-size // s) if same else (size - span) // s + 1)
    fields = {"padding": 0 if same else 1, "strideH": strides[0], "strideW": strides[1]}
    if dilate:
        fields.update(dilationHFactor=dilation[0], dilationWFactor=dilation[1])
    return into, out, fields, kernel


def _bias(d: Draw, channels: int, scales: Any, taps: int) -> Part:
    content = d.rng.integers(-2000 * taps, 2000 * taps, channels).astype(np.int32)
    return Part((channels,), scales, 0, content)


def _weight_scales(d: Draw, channels: int) -> Any:
    base = 10.0 ** d.rng.uniform(-4, 0)
    return np.float32(base * np.exp(d.rng.uniform(-1, 1, channels)))


def conv(d: Draw) -> Case:
    into, out, fields, kernel = _window(d)
    depth, channels = int(d.rng.integers(1, 6)), int(d.rng.integers(1, 7))
    groups = int(d.pick(1, 1, 2, 3))
    source = d.edge((1, *into, groups * depth))
    channels *= groups
    scales = _weight_scales(d, channels)
    taps = kernel[0] * kernel[1] * depth
    weights = Part((channels, *kernel, depth), scales, 0, d.int8((channels, *kernel, depth)), 0)
    result = d.edge((1, *out, channels), d.near(float(source.scales * scales.mean()), taps, 100.0 * taps))
    fields["fusedActivationFunction"] = d.activation()
    parts = [source, result, weights, _bias(d, channels, source.scales * scales, taps)]
    reads = [0, 2, 3] if d.rng.random() < 0.8 else [0, 2]
    return case_of(d, parts, [("CONV_2D", reads, [1], options_of("Conv2DOptions", **fields))])


def depthwise(d: Draw) -> Case:
    into, out, fields, kernel = _window(d)
    depth, multiplier = int(d.rng.integers(1, 6)), int(d.pick(1, 1, 2, 3))
    channels = depth * multiplier
    source = d.edge((1, *into, depth))
    scales = _weight_scales(d, channels)
    taps = kernel[0] * kernel[1]
    weights = Part((1, *kernel, channels), scales, 0, d.int8((1, *kernel, channels)), 3)
    result = d.edge((1, *out, channels), d.near(float(source.scales * scales.mean()), taps, 100.0 * taps))
    fields.update(fusedActivationFunction=d.activation(), depthMultiplier=multiplier)
    parts = [source, result, weights, _bias(d, channels, source.scales * scales, taps)]
    return case_of(d, parts, [("DEPTHWISE_CONV_2D", [0, 2, 3], [1], options_of("DepthwiseConv2DOptions", **fields))])


def transpose_conv(d: Draw) -> Case:
    kernel = (int(d.rng.integers(1, 5)), int(d.rng.integers(1, 5)))
    strides = (int(d.pick(1, 2, 2, 3)), int(d.pick(1, 2, 2, 3)))
    same = bool(d.pick(True, False))
    into = [int(n) for n in d.rng.integers(1, 6, 2)]
    if same:  # all sizes whose convolution gives the input's
        out = [n * s - int(d.rng.integers(0, s)) for n, s in zip(into, strides)]
    else:
        out = [(n - 1) * s + k + int(d.rng.integers(0, s)) for n, s, k in zip(into, strides, kernel)]
    depth, channels = int(d.rng.integers(1, 6)), int(d.rng.integers(1, 10))
    source = d.edge((1, *into, depth))
    scales = _weight_scales(d, channels if d.rng.random() < 0.8 else 1)
    taps = max(1, kernel[0] * kernel[1] * depth // (strides[0] * strides[1]))
    weights = Part((channels, *kernel, depth), scales, 0, d.int8((channels, *kernel, depth)), 0)
    result = d.edge((1, *out, channels), d.near(float(source.scales * scales.mean()), taps, 100.0 * taps))
    asked = _numbers([1, *out, channels])
    fields = options_of(
        "TransposeConvOptions",
        padding=0 if same else 1,
        strideH=strides[0],
        strideW=strides[1],
        fusedActivationFunction=d.activation(),
    )
    parts = [source, result, asked, weights, _bias(d, channels, source.scales * scales, taps)]
    reads = [2, 3, 0, 4] if d.rng.random() < 0.7 else [2, 3, 0]
    return case_of(d, parts, [("TRANSPOSE_CONV", reads, [1], fields)])


def fully_connected(d: Draw) -> Case:
    depth, channels, rows = int(d.rng.integers(1, 20)), int(d.rng.integers(1, 9)), int(d.pick(1, 1, 2))
    source = d.edge((rows, depth) if rows == 1 else (1, rows, depth))
    per_channel = d.rng.random() < 0.4
    scales = _weight_scales(d, channels if per_channel else 1)
    weights = Part((channels, depth), scales, 0, d.int8((channels, depth)), 0)
    shape = (1, channels) if rows == 1 else (1, rows, channels)
    result = d.edge(shape, d.near(float(source.scales * scales.mean()), depth, 100.0 * depth))
    fields = options_of("FullyConnectedOptions", fusedActivationFunction=d.activation(), keepNumDims=rows > 1)
    parts = [source, result, weights, _bias(d, channels, source.scales * scales, depth)]
    return case_of(d, parts, [("FULLY_CONNECTED", [0, 2, 3] if d.pick(True, False) else [0, 2, -1], [1], fields)])


def _broadcastable(d: Draw) -> Tuple[Tuple[int, ...], Tuple[int, ...], Tuple[int, ...]]:
    """Shapes of two inputs and of the output."""
    full = (1, *(int(n) for n in d.rng.integers(1, 6, 3)))
    kind = d.rng.integers(4)
    if kind == 0:
        return (1, 256), (1, 256), (1, 256)
    if kind == 1:
        return full, full, full
    cut = tuple(1 if d.pick(True, False) else n for n in full)
    cut = cut[d.rng.integers(4) :] if kind == 2 else cut
    return full, cut, full


def _two_inputs(d: Draw, op: str, fields: Options) -> Case:
    """One of them a constant; of one scale and zero point where nothing is rescaled."""
    one, two, out = _broadcastable(d)
    source = d.edge(one)
    other = d.edge(two, d.near(source.scale, 1e-3, 1e3))
    widest = max(source.scale, other.scale)
    product = max(source.scale * other.scale * 50, 1e-7)  # the 6 of RELU6 has 32 bits in it
    result = d.edge(out, d.near(product if op == "MUL" else widest))
    if op not in ("ADD", "SUB", "MUL"):
        other, result = Part(two, *source[1:3]), Part(out, *source[1:3])
    other = other._replace(content=d.int8(two))
    reads = [0, 2] if d.pick(True, False) else [2, 0]
    return case_of(d, [source, result, other], [(op, reads, [1], fields)])


def add(d: Draw) -> Case:
    return _two_inputs(d, "ADD", options_of("AddOptions", fusedActivationFunction=d.activation()))


def sub(d: Draw) -> Case:
    return _two_inputs(d, "SUB", options_of("SubOptions", fusedActivationFunction=d.activation()))


def mul(d: Draw) -> Case:
    return _two_inputs(d, "MUL", options_of("MulOptions", fusedActivationFunction=d.activation()))


def _of_two(op: str) -> Callable[[Draw], Case]:
    return lambda d: _two_inputs(d, op, options_of("MaximumMinimumOptions"))


def _like(source: Part, shape: Sequence[int]) -> Part:
    return Part(tuple(int(n) for n in shape), source.scales, source.zero_points)


def _numbers(values: Sequence[int]) -> Part:
    content = np.array(values, np.int32)
    return Part(content.shape, content=content)


def strided_slice(d: Draw) -> Case:
    rank = int(d.rng.integers(2, 5))
    shape = (1, *(int(n) for n in d.rng.integers(1, 7, rank - 1)))
    begin, end, stride, spans = [], [], [], []
    masks = {"beginMask": 0, "endMask": 0, "shrinkAxisMask": 0}
    for axis, size in enumerate(shape):
        step = int(d.pick(1, 1, 2, -1, 3)) if axis else 1
        first, last = sorted(int(n) for n in d.rng.integers(0, size, 2))
        ends = (first, last + 1) if step > 0 else (last, first - 1)
        shrink = bool(axis and step == 1 and rank > 2 and d.rng.random() < 0.2)
        open_begin, open_end = d.rng.random() < 0.3, d.rng.random() < 0.3 or ends[1] < 0
        span = range(*slice(None if open_begin else ends[0], None if open_end else ends[1], step).indices(size))
        if shrink:
            span, open_begin, open_end = range(ends[0], ends[0] + 1), False, False
        masks["beginMask"] |= int(open_begin) << axis
        masks["endMask"] |= int(open_end) << axis
        masks["shrinkAxisMask"] |= int(shrink) << axis
        begin.append(ends[0] - (size if d.rng.random() < 0.2 and not shrink else 0))
        end.append(ends[0] + 1 if shrink else ends[1])
        stride.append(step)
        spans.append((len(span), shrink))
    source = d.edge(shape)
    out = [count for count, shrink in spans if not shrink]
    parts = [source, _like(source, out), _numbers(begin), _numbers(end), _numbers(stride)]
    return case_of(d, parts, [("STRIDED_SLICE", [0, 2, 3, 4], [1], options_of("StridedSliceOptions", **masks))])


def slice_(d: Draw) -> Case:
    shape = (1, *(int(n) for n in d.rng.integers(1, 7, 3)))
    begin = [int(d.rng.integers(0, n)) for n in shape]
    size = [int(d.rng.integers(1, n - first + 1)) for n, first in zip(shape, begin)]
    source = d.edge(shape)
    asked = [
        -1 if d.rng.random() < 0.3 and first + count == n else count for n, first, count in zip(shape, begin, size)
    ]
    parts = [source, _like(source, size), _numbers(begin), _numbers(asked)]
    return case_of(d, parts, [("SLICE", [0, 2, 3], [1], options_of("SliceOptions"))])


def _joined(
    d: Draw, op: str, more: Sequence[Part], sizes: Sequence[int], axis: int, shape: List[int], fields: Options
) -> Case:
    """The parts, joined again in another order: a model has one output."""
    source = d.edge(shape)
    pieces = []
    for size in sizes:
        piece = list(shape)
        piece[axis] = size
        pieces.append(_like(source, piece))
    first = 2 + len(more)
    places = list(range(first, first + len(pieces)))
    reads = {"SPLIT": [2, 0], "SPLIT_V": [0, 2, 3]}[op]
    join = ("CONCATENATION", places[::-1], [1], options_of("ConcatenationOptions", axis=axis))
    return case_of(d, [source, _like(source, shape), *more, *pieces], [(op, reads, places, fields), join])


def split(d: Draw) -> Case:
    shape = [1, *(int(n) for n in d.rng.integers(1, 5, 3))]
    axis, count = int(d.rng.integers(1, 4)), int(d.rng.integers(2, 4))
    shape[axis] *= count
    where = _numbers([axis - (4 if d.pick(True, False) else 0)])._replace(shape=())
    return _joined(
        d, "SPLIT", [where], [shape[axis] // count] * count, axis, shape, options_of("SplitOptions", numSplits=count)
    )


def split_v(d: Draw) -> Case:
    shape = [1, *(int(n) for n in d.rng.integers(1, 5, 3))]
    axis = int(d.rng.integers(1, 4))
    sizes = [int(n) for n in d.rng.integers(1, 4, int(d.rng.integers(2, 4)))]
    shape[axis] = sum(sizes)
    more = [_numbers(sizes), _numbers([axis])._replace(shape=())]
    return _joined(d, "SPLIT_V", more, sizes, axis, shape, options_of("SplitVOptions", numSplits=len(sizes)))


def unpack(d: Draw) -> Case:
    """Two of the slices added: TFLM packs no scalars of int8 again without PACK."""
    shape = [1, *(int(n) for n in d.rng.integers(1, 6, 2))]
    axis = int(d.rng.integers(1, 3))
    shape[axis] = 2
    source = d.edge(shape)
    piece = _like(source, [n for place, n in enumerate(shape) if place != axis])
    result = d.edge(piece.shape, d.near(source.scale))
    fields = options_of("UnpackOptions", num=2, axis=axis - (3 if d.pick(True, False) else 0))
    operators = [("UNPACK", [0], [2, 3], fields), ("ADD", [2, 3], [1], options_of("AddOptions"))]
    return case_of(d, [source, result, piece, piece], operators)


def transpose(d: Draw) -> Case:
    rank = int(d.rng.integers(2, 5))
    shape = [1, *(int(n) for n in d.rng.integers(1, 6, rank - 1))]
    order = [0, *(int(n) for n in d.rng.permutation(np.arange(1, rank)))]
    source = d.edge(shape)
    parts = [source, _like(source, [shape[axis] for axis in order]), _numbers(order)]
    return case_of(d, parts, [("TRANSPOSE", [0, 2], [1], options_of("TransposeOptions"))])


def _pool(name: str) -> Callable[[Draw], Case]:
    def draw(d: Draw) -> Case:
        into, out, fields, kernel = _window(d, dilate=False)
        depth = int(d.rng.integers(1, 5))
        source = d.edge((1, *into, depth))
        fields.update(filterHeight=kernel[0], filterWidth=kernel[1], fusedActivationFunction=d.activation())
        result = Part((1, *out, depth), source.scales, source.zero_points)
        return case_of(d, [source, result], [(name, [0], [1], options_of("Pool2DOptions", **fields))])

    return draw


def _reduced(op: str) -> Callable[[Draw], Case]:
    def draw(d: Draw) -> Case:
        rank = int(d.rng.integers(2, 5))
        shape = (1, *(int(n) for n in d.rng.integers(1, 9, rank - 1)))
        first = int(d.rng.integers(1, rank))
        axes = list(range(first, int(d.rng.integers(first + 1, rank + 1))))
        if rank == 4 and d.pick(True, False):
            axes = [1, 2]
        keep = bool(d.pick(True, False))
        out = [1 if axis in axes else n for axis, n in enumerate(shape) if keep or axis not in axes]
        source = d.edge(shape)
        result = Part(tuple(out), source.scales, source.zero_points)
        if op == "MEAN":
            result = d.edge(out, d.near(source.scale))
        numbers = _numbers([axis - (rank if d.rng.random() < 0.3 else 0) for axis in axes])
        return case_of(d, [source, result, numbers], [(op, [0, 2], [1], options_of("ReducerOptions", keepDims=keep))])

    return draw


def _pad(op: str) -> Callable[[Draw], Case]:
    def draw(d: Draw) -> Case:
        """Height and width, or any one axis, of up to four."""
        rank = int(d.pick(2, 3, 4, 4, 4))
        shape = (1, *(int(n) for n in d.rng.integers(1, 6, rank - 1)))
        amounts = np.zeros((rank, 2), np.int32)
        if rank == 4 and d.rng.random() < 0.6:
            amounts[1:3] = d.rng.integers(0, 4, (2, 2))
        else:
            amounts[d.rng.integers(0, rank)] = d.rng.integers(0, 4, 2)
        source = d.edge(shape)
        out = tuple(int(n) for n in np.array(shape) + amounts.sum(1))
        result = Part(out, source.scales, source.zero_points)
        parts = [source, result, Part((rank, 2), content=amounts)]
        if d.rng.random() < (0.9 if op == "PADV2" else 0.2):
            value = np.array(d.rng.integers(-128, 128), np.int8).reshape(d.pick((), (1,)))
            parts.append(Part(value.shape, source.scales, source.zero_points, value))
        options = options_of("PadV2Options" if op == "PADV2" else "PadOptions")
        return case_of(d, parts, [(op, [0, *range(2, len(parts))], [1], options)])

    return draw


def _resize(op: str, options: str) -> Callable[[Draw], Case]:
    def draw(d: Draw) -> Case:
        into, depth = [int(n) for n in d.rng.integers(1, 9, 2)], int(d.rng.integers(1, 5))
        kind = d.rng.integers(4)
        out = [n * d.pick(2, 3) for n in into] if kind == 0 else [int(n) for n in d.rng.integers(1, 30, 2)]
        if kind == 1:
            out = [int(d.pick(1, 2, 97, 200)), int(d.pick(1, 64, 150))]
        align, half = bool(d.pick(True, False)), bool(d.pick(True, False))
        if op == "RESIZE_BILINEAR" and align:
            half = False
        source = d.edge((1, *into, depth))
        fields = options_of(options, alignCorners=align, halfPixelCenters=half)
        parts = [source, _like(source, (1, *out, depth)), _numbers(out)]
        return case_of(d, parts, [(op, [0, 2], [1], fields)], f"align {align} half {half}")

    return draw


def concatenation(d: Draw) -> Case:
    shape = [1, *(int(n) for n in d.rng.integers(1, 6, 3))]
    axis = int(d.rng.integers(1, 4))
    source = d.edge(shape)
    other = list(shape)
    other[axis] = int(d.rng.integers(1, 4))
    out = list(shape)
    out[axis] = shape[axis] + other[axis]
    parts = [source, Part(tuple(out), *source[1:3]), Part(tuple(other), *source[1:3], d.int8(other))]
    reads = [0, 2] if d.pick(True, False) else [2, 0]
    return case_of(d, parts, [("CONCATENATION", reads, [1], options_of("ConcatenationOptions", axis=axis - 4))])


def pack(d: Draw) -> Case:
    shape = [1, *(int(n) for n in d.rng.integers(1, 6, int(d.rng.integers(1, 3))))]
    axis = int(d.rng.integers(1, len(shape) + 1))
    others = int(d.rng.integers(0, 4))
    source = d.edge(shape)
    out = [*shape[:axis], 1 + others, *shape[axis:]]
    parts = [source, _like(source, out), *(Part(tuple(shape), *source[1:3], d.int8(shape)) for _ in range(others))]
    reads = [int(n) for n in d.rng.permutation([0, *range(2, 2 + others)])]
    counted = axis - (len(out) if d.pick(True, False) else 0)
    return case_of(d, parts, [("PACK", reads, [1], options_of("PackOptions", valuesCount=len(reads), axis=counted))])


def _unary(op: str, result: Callable[[Draw, Part], Part], fields: Options = None) -> Callable[[Draw], Case]:
    def draw(d: Draw) -> Case:
        source = d.edge((1, 256))
        return case_of(d, [source, result(d, source)], [(op, [0], [1], fields)])

    return draw


def _unit(d: Draw, source: Part) -> Part:
    return Part(source.shape, 1 / 256, -128)


def _other(d: Draw, source: Part) -> Part:
    return d.edge(source.shape, d.near(source.scale))


def _not_much_finer(d: Draw, source: Part) -> Part:
    """HARD_SWISH takes no output scale below 1/128 of the input's; drawn once more, such a one is rare."""
    result = _other(d, source)
    return _other(d, source) if result.scale * 128 < source.scale else result


def _same(d: Draw, source: Part) -> Part:
    return Part(source.shape, source.scales, source.zero_points)


def _tanh(d: Draw, source: Part) -> Part:
    return Part(source.shape, 1 / 128, 0)


def leaky_relu(d: Draw) -> Case:
    source = d.edge((1, 256))
    alpha = float(d.pick(0.2, 0.3, 0.01, 1.5, 0.0, 0.1))
    return case_of(
        d, [source, _other(d, source)], [("LEAKY_RELU", [0], [1], options_of("LeakyReluOptions", alpha=alpha))]
    )


def prelu(d: Draw) -> Case:
    full, cut, _ = _broadcastable(d)
    source = d.edge(full)
    slope = Part(cut, float(10.0 ** d.rng.uniform(-4, 0)), d.zero_point(), d.int8(cut))
    result = d.edge(full, d.near(source.scale))
    return case_of(d, [source, result, slope], [("PRELU", [0, 2], [1], None)])


def softmax(d: Draw) -> Case:
    depth = int(d.rng.integers(2, 12))
    source = d.edge((1, int(d.rng.integers(1, 4)), depth))
    beta = float(d.pick(1.0, 1.0, 0.5, 3.0))
    return case_of(d, [source, _unit(d, source)], [("SOFTMAX", [0], [1], options_of("SoftmaxOptions", beta=beta))])


def lstm(d: Draw) -> Case:
    steps, width, units = int(d.pick(1, 1, 2, 3, 6)), int(d.rng.integers(1, 9)), int(d.rng.integers(1, 9))
    time_major = bool(d.pick(False, True))
    inside, outside = ((steps, 1, n) if time_major else (1, steps, n) for n in (width, units))
    source = d.edge(inside)
    hidden = d.edge((1, units), d.near(1 / 128))._replace(variable=True)
    result = hidden._replace(shape=outside, variable=False)
    cell = Part((1, units), float(2.0 ** d.rng.integers(-16, -8)), 0, kind="int16", variable=True)
    spread = float(np.exp(d.rng.uniform(-3, 2)))  # of what the gates are computed of
    of_source, of_hidden = (d.near(spread / part.scale / 100 / part.shape[-1]) for part in (source, hidden))
    weights = [Part((units, width), of_source, 0, d.int8((units, width))) for _ in range(4)]
    weights += [Part((units, units), of_hidden, 0, d.int8((units, units))) for _ in range(4)]
    biases = [_bias(d, units, of_source * source.scale, width) for _ in range(4)]
    parts = [source, result, *weights, *biases, hidden, cell]
    reads = [0, *range(2, 10), -1, -1, -1, *range(10, 14), -1, -1, 14, 15, -1, -1, -1, -1]
    clip = float(d.pick(0, 0, 10 * cell.scale * 128, 1.0))
    fields = options_of(
        "UnidirectionalSequenceLSTMOptions", fusedActivationFunction=4, cellClip=clip, timeMajor=time_major
    )
    return case_of(d, parts, [("UNIDIRECTIONAL_SEQUENCE_LSTM", reads, [1], fields)])


def svdf(d: Draw) -> Case:
    kind = str(d.pick("int16", "int16", "int8"))
    rank, units, width, steps = (int(d.rng.integers(1, most)) for most in (4, 7, 12, 9))
    filters, widest = rank * units, 2**15 if kind == "int16" else 2**7
    source = d.edge((1, width), float(10.0 ** d.rng.uniform(-6, 1)))  # beyond, a bias has no scale within 1e-5
    feature = Part((filters, width), float(10.0 ** d.rng.uniform(-4, 0)), 0, d.int8((filters, width)))
    largest = float(source.scale * feature.scale) * 128 * 128
    state = Part((1, filters * steps), d.near(largest / widest), 0, kind=kind, variable=True)
    if kind == "int8":
        state = state._replace(zero_points=int(d.pick(0, 0, 3, -100, 127)))
    weights = d.rng.integers(-widest, widest, (filters, steps)) // (1 if kind == "int8" else d.pick(1, 64, 4096))
    # The bias may differ by 1e-5 in its scale: TFLM asks no more.
    time = Part((filters, steps), float(10.0 ** d.rng.uniform(-6, -1)), 0, weights.astype(kind))
    product = float(np.float32(state.scale) * np.float32(time.scale))
    bias = Part(
        (units,), product + float(d.pick(0, 0, 9e-6)), 0, d.rng.integers(-(2**20), 2**20, units).astype(np.int32)
    )
    result = d.edge((1, units), d.near(product * widest * np.abs(weights).max() / 128 + 1e-9))
    fields = options_of("SVDFOptions", rank=rank, fusedActivationFunction=d.activation())
    return case_of(d, [source, result, feature, time, bias, state], [("SVDF", [0, 2, 3, 4, 5], [1], fields)])


CASES: Dict[str, Callable[[Draw], Case]] = {
    "ADD": add,
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "CONCATENATION": concatenation,
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "HARD_SWISH": _unary("HARD_SWISH", _not_much_finer),
    "LEAKY_RELU": leaky_relu,
    "LOGISTIC": _unary("LOGISTIC", _unit),
    "MAXIMUM": _of_two("MAXIMUM"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "MEAN": _reduced("MEAN"),
    "MINIMUM": _of_two("MINIMUM"),
    "MUL": mul,
    "PACK": pack,
    "PAD": _pad("PAD"),
    "PADV2": _pad("PADV2"),
    "PRELU": prelu,
    "QUANTIZE": _unary("QUANTIZE", _other),
    "REDUCE_MAX": _reduced("REDUCE_MAX"),
    "RELU": _unary("RELU", _other),
    "RELU6": _unary("RELU6", _same),
    "RESIZE_BILINEAR": _resize("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    "SLICE": slice_,
    "SOFTMAX": softmax,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "STRIDED_SLICE": strided_slice,
    "SUB": sub,
    "SVDF": svdf,
    "TANH": _unary("TANH", _tanh),
    "TRANSPOSE": transpose,
    "TRANSPOSE_CONV": transpose_conv,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
    "UNPACK": unpack,
}
"""An operator of engine/direct: how to draw a model of it."""
