"""TensorFlow's gradients of ten kinds of op, written only with ops that have TFLite builtins.

TensorFlow's own gradients of these ops become Flex ops (ReluGrad, Conv2DBackpropFilter, MaxPoolGrad ...), which the
small runtimes on nodes cannot run. Inside `builtin_gradients()` the replacements below are registered instead. The
registry is private to TensorFlow, so the version is pinned.

Known trap: `tf.reverse(w, [0, 1])` flips only axis 0 in tflite-runtime 2.13 and 2.14. Reverse one axis at a time.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from model_export.errors import ExportError
from model_export.quiet import tensorflow


@contextlib.contextmanager
def builtin_gradients() -> Iterator[None]:
    """Register the replacements while tracing a gradient, and restore TensorFlow's own afterwards."""
    tensorflow()
    from tensorflow.python.framework import ops

    registry = ops.gradient_registry._registry
    saved = {name: registry[name] for name in GRADIENTS}
    try:
        for name, function in GRADIENTS.items():
            registry[name] = {**saved[name], "type": function}
        yield
    finally:
        registry.update(saved)


class _Window(NamedTuple):
    """How a kernel or pool slides over NHWC input: sizes, strides, dilations and padding of both axes."""

    input: Tuple[int, int]
    kernel: Tuple[int, int]
    stride: Tuple[int, int]
    dilation: Tuple[int, int]
    before: Tuple[int, int]
    after: Tuple[int, int]
    output: Tuple[int, int]

    def offsets(self) -> List[Tuple[int, int]]:
        return [
            (i * self.dilation[0], j * self.dilation[1]) for i in range(self.kernel[0]) for j in range(self.kernel[1])
        ]


def _window(op: Any, kernel: Tuple[int, int], dilation: Tuple[int, int] = (1, 1)) -> _Window:
    padding = op.get_attr("padding").decode()
    if padding not in ("SAME", "VALID") or op.get_attr("data_format") != b"NHWC":
        raise ExportError(f"{op.type}: only SAME or VALID padding with channels last can be trained on a node")
    _, height, width, _ = op.inputs[0].shape
    strides = op.get_attr("strides")
    axes: List[Tuple[int, int, int]] = []
    for size, k, s, d in zip((height, width), kernel, strides[1:3], dilation):
        reach = (k - 1) * d + 1
        if padding == "VALID":
            out = (size - reach) // s + 1
            total = 0
        else:
            out = -(-size // s)
            total = max((out - 1) * s + reach - size, 0)
        axes.append((total // 2, total - total // 2, out))
    (top, bottom, out_height), (left, right, out_width) = axes
    return _Window(
        (height, width),
        kernel,
        (strides[1], strides[2]),
        dilation,
        (top, left),
        (bottom, right),
        (out_height, out_width),
    )


def _padded(x: Any, window: _Window, value: float = 0.0) -> Any:
    tf = tensorflow()
    if not any(window.before + window.after):
        return x
    pads = [[0, 0], *zip(window.before, window.after), [0, 0]]
    return tf.pad(x, pads, constant_values=value)


def _slices(padded: Any, window: _Window) -> List[Any]:
    """What every kernel position sees: one (batch, out_h, out_w, channels) tensor per offset, row-major."""
    (sh, sw), (oh, ow) = window.stride, window.output
    return [padded[:, i : i + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw] for i, j in window.offsets()]


def _spread(d: Any, stride: Tuple[int, int]) -> Any:
    """Insert stride - 1 zeros behind every row and column."""
    tf = tensorflow()
    batch, height, width, channels = d.shape
    if stride[0] > 1:
        d = tf.pad(tf.reshape(d, [batch * height, 1, width, channels]), [[0, 0], [0, stride[0] - 1], [0, 0], [0, 0]])
        height *= stride[0]
        d = tf.reshape(d, [batch, height, width, channels])
    if stride[1] > 1:
        d = tf.reshape(d, [batch * height * width, 1, 1, channels])
        d = tf.pad(d, [[0, 0], [0, 0], [0, stride[1] - 1], [0, 0]])
        d = tf.reshape(d, [batch, height, width * stride[1], channels])
    return d


def _fit(d: Any, offset: Tuple[int, int], size: Tuple[int, int]) -> Any:
    """Move d down and right by `offset` (up and left where negative), then pad or crop to `size`."""
    tf = tensorflow()
    pads, begin = [[0, 0]], [0]
    for axis in (0, 1):
        shift, have = offset[axis], d.shape[1 + axis]
        pads.append([max(0, shift), max(0, size[axis] - have - shift)])
        begin.append(max(0, -shift))
    pads.append([0, 0])
    if any(before or after for before, after in pads):
        d = tf.pad(d, pads)
    return d[:, begin[1] : begin[1] + size[0], begin[2] : begin[2] + size[1]]


def _interleave(parts: List[Any], stride: Tuple[int, int]) -> Any:
    """(batch, sh h, sw w, channels) of sh sw parts (batch, h, w, channels), row-major: part (r, s) gives rows r, r + sh ... of
    columns s, s + sw ...
    """
    tf = tensorflow()
    (sh, sw), (batch, height, width, channels) = stride, parts[0].shape
    rows = []
    for i in range(sh):
        row = tf.stack(parts[i * sw : (i + 1) * sw], 3) if sw > 1 else parts[i]
        rows.append(tf.reshape(row, [batch, height, 1, width * sw * channels]))
    return tf.reshape(tf.concat(rows, 2) if sh > 1 else rows[0], [batch, height * sh, width * sw, channels])


def _gather_back(parts: List[Any], window: _Window) -> Any:
    """The transpose of `_slices`: add every part back to the input positions it was read from."""
    tf = tensorflow()
    if window.stride == window.kernel and window.dilation == (1, 1):  # every input position is read once
        return _fit(_interleave(parts, window.stride), (-window.before[0], -window.before[1]), window.input)
    moved = [
        _fit(_spread(part, window.stride), (i - window.before[0], j - window.before[1]), window.input)
        for part, (i, j) in zip(parts, window.offsets())
    ]
    return tf.add_n(moved)


def _flip(kernel: Any) -> Any:
    tf = tensorflow()
    for axis in (0, 1):
        if kernel.shape[axis] > 1:
            kernel = tf.reverse(kernel, [axis])
    return kernel


def _relu(op: Any, dy: Any) -> Any:
    tf = tensorflow()
    return dy * tf.cast(op.outputs[0] > 0, dy.dtype)


def _relu6(op: Any, dy: Any) -> Any:
    tf = tensorflow()
    y = op.outputs[0]
    return dy * tf.cast(tf.logical_and(y > 0, y < 6), dy.dtype)


def _tanh(op: Any, dy: Any) -> Any:
    y = op.outputs[0]
    return dy * (1.0 - y * y)


def _sigmoid(op: Any, dy: Any) -> Any:
    y = op.outputs[0]
    return dy * y * (1.0 - y)


def _leaky_relu(op: Any, dy: Any) -> Any:
    tf = tensorflow()
    alpha = op.get_attr("alpha")
    return dy * (alpha + (1.0 - alpha) * tf.cast(op.inputs[0] > 0, dy.dtype))


def _elu(op: Any, dy: Any) -> Any:
    tf = tensorflow()
    return dy * (1.0 + tf.minimum(op.outputs[0], 0.0))


def _conv2d(op: Any, dy: Any) -> Tuple[Any, Any]:
    tf = tensorflow()
    x, w = op.inputs
    kh, kw, channels_in, channels_out = w.shape
    if x.shape[3] != channels_in:
        raise ExportError(f"{op.type}: grouped convolutions cannot be trained on a node; use groups=1")
    window = _window(op, (kh, kw), tuple(op.get_attr("dilations")[1:3]))
    if window.dilation == (1, 1):
        dx = tf.nn.conv2d_transpose(dy, w, x.shape, window.stride, op.get_attr("padding").decode())
    else:  # TRANSPOSE_CONV knows no dilation: correlate with the flipped kernel instead
        reach = [(k - 1) * d for k, d in zip(window.kernel, window.dilation)]
        spread = _spread(dy, window.stride)
        size = (window.input[0] + reach[0], window.input[1] + reach[1])
        spread = _fit(spread, (reach[0] - window.before[0], reach[1] - window.before[1]), size)
        dx = tf.nn.conv2d(spread, tf.transpose(_flip(w), [0, 1, 3, 2]), 1, "VALID", dilations=window.dilation)
    columns = tf.concat(_slices(_padded(x, window), window), -1)
    columns = tf.reshape(columns, [-1, kh * kw * channels_in])
    dw = tf.matmul(columns, tf.reshape(dy, [-1, channels_out]), transpose_a=True)
    return dx, tf.reshape(dw, w.shape)


def _depthwise_conv2d(op: Any, dy: Any) -> Tuple[Any, Any]:
    tf = tensorflow()
    x, w = op.inputs
    kh, kw, _, multiplier = w.shape
    dilation = tuple(op.get_attr("dilations")[1:3])
    if multiplier != 1 or dilation != (1, 1):
        raise ExportError(
            f"{op.type}: a depthwise convolution with depth multiplier {multiplier} and dilation {dilation} "
            "cannot be trained on a node; use depth_multiplier=1 and dilation_rate=1"
        )
    window = _window(op, (kh, kw))
    dw = tf.stack([tf.reduce_sum(part * dy, [0, 1, 2]) for part in _slices(_padded(x, window), window)])
    return _depthwise_back(dy, w, window), tf.reshape(dw, w.shape)


def _depthwise_back(dy: Any, w: Any, window: _Window) -> Any:
    """The gradient for a depthwise convolution's input, w (kh, kw, channels, 1).

    Input positions by their place within a stride: those of one place are read by the same kernel positions, every stride-th.
    Each is a convolution of dy itself, with no zeros in between.
    """
    tf = tensorflow()
    (sh, sw), (batch, *_, channels) = window.stride, dy.shape
    (kh, kw), flipped = window.kernel, _flip(w)
    if window.stride == (1, 1) and window.input == window.output and window.before == window.after:
        return tf.nn.depthwise_conv2d(dy, flipped, [1, 1, 1, 1], "SAME")
    base = [first // s for first, s in zip(window.before, window.stride)]  # whole strides of padding: nobody reads them
    sizes = [-(-(first + n) // s) - b for first, n, s, b in zip(window.before, window.input, window.stride, base)]
    parts = []
    for r in range(sh):
        for s in range(sw):
            kernel = flipped[(kh - 1 - r) % sh :: sh, (kw - 1 - s) % sw :: sw] if sh * sw > 1 else flipped
            if r >= kh or s >= kw:  # strides longer than the kernel leave positions out
                parts.append(tf.zeros([batch, *sizes, channels]))
                continue
            reach = [k - 1 for k in kernel.shape[:2]]
            full = _fit(dy, (reach[0] - base[0], reach[1] - base[1]), (sizes[0] + reach[0], sizes[1] + reach[1]))
            parts.append(tf.nn.depthwise_conv2d(full, kernel, [1, 1, 1, 1], "VALID"))
    dx = _interleave(parts, window.stride) if len(parts) > 1 else parts[0]
    return _fit(dx, (base[0] * sh - window.before[0], base[1] * sw - window.before[1]), window.input)


def _max_pool(op: Any, dy: Any) -> Any:
    tf = tensorflow()
    x, y = op.inputs[0], op.outputs[0]
    window = _window(op, tuple(op.get_attr("ksize")[1:3]))
    left, parts = tf.ones_like(y), []
    for part in _slices(_padded(x, window, x.dtype.min), window):  # the first of equal values wins, as in MaxPoolGrad
        hit = tf.cast(tf.equal(part, y), dy.dtype) * left
        left = left - hit
        parts.append(hit * dy)
    return _gather_back(parts, window)


def _avg_pool(op: Any, dy: Any) -> Any:
    tf = tensorflow()
    window = _window(op, tuple(op.get_attr("ksize")[1:3]))
    shape = [1, *window.input, 1]
    counts = sum(_slices(_padded(tf.ones(shape), window), window))  # padding is not averaged over
    share = dy / counts
    # AvgPoolGrad's only input tensor is the shape, so its window comes from the forward op
    return _gather_back([share] * (window.kernel[0] * window.kernel[1]), window)


GRADIENTS: Dict[str, Callable[..., Any]] = {
    "Relu": _relu,
    "Relu6": _relu6,
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Tanh": _tanh,
    "Sigmoid": _sigmoid,
    "Conv2D": _conv2d,
    "DepthwiseConv2dNative": _depthwise_conv2d,
    "MaxPool": _max_pool,
    "AvgPool": _avg_pool,
}
