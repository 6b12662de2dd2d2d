"""One function per TFLite operator: what engine/direct must know to compute the same bits as TFLM."""

from __future__ import annotations

import contextlib
import struct
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from model_export.plan_arena import window_lag
from model_export.plan_math import (
    INT8_MAX,
    INT8_MIN,
    activation_range,
    logistic_table,
    quantize_multiplier,
    relu_table,
    softmax_table,
)
from model_export.plan_steps import PlanError, Step, check_int8
from model_export.tflite_file import Op, Tensor, TfliteModel

_ADD_LEFT_SHIFT = 20
_MAX_SOFTMAX_DEPTH = 511  # beyond it, TFLM's own shift is out of range
_MAX_TAPS = 131071  # products of int8 values one 32-bit accumulator holds
Hwc = Tuple[int, int, int]


def lower(model: TfliteModel, op: Op) -> List[Step]:
    """The steps for one supported operator; raises PlanError where its options or types are not supported."""
    if op.code == "CONCATENATION":
        return _concatenation(_Context(model, op))
    return [_ONE_STEP[op.code](_Context(model, op))]


class _Context:
    """The operator with its tensors, and errors that name it."""

    def __init__(self, model: TfliteModel, op: Op) -> None:
        self.model, self.op = model, op
        if not op.inputs or len(op.outputs) != 1:
            raise self.error(f"{len(op.inputs)} inputs and {len(op.outputs)} outputs")
        self.output = self.activation(model.tensors[op.outputs[0]], "output")

    def error(self, what: str) -> PlanError:
        return PlanError(f"operator {self.op.index} ({self.op.code}): {what}")

    def input(self, position: int = 0) -> Tensor:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"input {position} is missing")
        return self.activation(self.model.tensors[self.op.inputs[position]], f"input {position}")

    def operand(self, position: int) -> Tensor:
        """An input that may also be an int8 constant."""
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"input {position} is missing")
        tensor = self.model.tensors[self.op.inputs[position]]
        if tensor.data is None:
            return self.activation(tensor, f"input {position}")
        constant = self.constant(position, "int8")
        check_int8(constant, f"operator {self.op.index} ({self.op.code}): input {position}")
        return constant

    def activation(self, tensor: Tensor, what: str) -> Tensor:
        check_int8(tensor, f"operator {self.op.index} ({self.op.code}): {what}")
        if tensor.data is not None:
            raise self.error(f"{what} ({tensor.name}) is a constant; supported are activations")
        if 0 in tensor.shape:
            raise self.error(f"{what} ({tensor.name}) has the empty shape {tensor.shape}")
        return tensor

    def constant(self, position: int, dtype: str, rank: Optional[int] = None) -> Tensor:
        if position >= len(self.op.inputs) or self.op.inputs[position] < 0:
            raise self.error(f"input {position} is missing")
        tensor = self.model.tensors[self.op.inputs[position]]
        if tensor.data is None or tensor.dtype != dtype or tensor.is_sparse or tensor.buffer_offset is None:
            raise self.error(f"input {position} ({tensor.name}) must be a dense {dtype} constant, it is {tensor.dtype}")
        if rank is not None and len(tensor.shape) != rank:
            raise self.error(f"input {position} ({tensor.name}) must have {rank} dimensions, it has {tensor.shape}")
        return tensor

    def hwc(self, tensor: Tensor) -> Hwc:
        shape = tensor.shape
        if len(shape) not in (3, 4) or shape[0] != 1:
            raise self.error(f"shape {shape} ({tensor.name}); supported is (1, height, width, channels)")
        return (1, shape[1], shape[2]) if len(shape) == 3 else (shape[1], shape[2], shape[3])

    def clamp(self) -> Tuple[int, int]:
        activation = self.op.options["activation"]
        with self.named_errors():
            return activation_range(activation, self.output.scales[0], _zero_point(self.output))

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns plan_math's ValueError into one that names the operator."""
        try:
            yield
        except ValueError as error:
            raise self.error(str(error)) from None

    def window(
        self, in_hwc: Hwc, out_hwc: Hwc, kernel: Tuple[int, int], dilation: Tuple[int, int]
    ) -> Tuple[Tuple, Tuple]:
        """(strides, pads) after checking that the output shape follows from them."""
        options = self.op.options
        strides = options["stride_h"], options["stride_w"]
        pads, expected = [], []
        for size, k, stride, dilate in zip(in_hwc, kernel, strides, dilation):
            if k < 1 or stride < 1 or dilate < 1:
                raise self.error(f"kernel {kernel}, stride {strides} and dilation {dilation} must be 1 or more")
            span = (k - 1) * dilate + 1
            if options["padding"] == "same":
                expected.append(-(-size // stride))
                pads.append(max((expected[-1] - 1) * stride + span - size, 0) // 2)
            else:
                expected.append((size - span) // stride + 1)
                pads.append(0)
        if tuple(expected) != out_hwc[:2] or min(expected) < 1:
            raise self.error(f"output {out_hwc} does not follow from input {in_hwc}, kernel {kernel}, stride {strides}")
        return strides, tuple(pads)


def _zero_point(tensor: Tensor) -> int:
    return int(tensor.zero_points[0])


def _weights_table(c: _Context, weights: Tensor, channel_axis: int) -> Tuple[bytes, bool]:
    """Table of a conv or depthwise step, and whether it has one multiplier per channel."""
    channels = weights.shape[channel_axis]
    if weights.data is not None and weights.data.size // channels > _MAX_TAPS:
        raise c.error(f"weights {weights.shape}: more than {_MAX_TAPS} products per output")
    if len(weights.scales) not in (1, channels) or (len(weights.scales) > 1 and weights.axis != channel_axis):
        raise c.error(f"weights ({weights.name}) have {len(weights.scales)} scales along axis {weights.axis}")
    if np.any(weights.zero_points != 0):
        raise c.error(f"weights ({weights.name}) have a zero point; supported are symmetric weights")
    assert weights.data is not None
    other_axes = tuple(a for a in range(len(weights.shape)) if a != channel_axis)
    bias = np.zeros(channels, np.int64)
    if len(c.op.inputs) > 2 and c.op.inputs[2] >= 0:
        constant = c.constant(2, "int32", rank=1)
        assert constant.data is not None
        if constant.shape != (channels,):
            raise c.error(f"bias ({constant.name}) has shape {constant.shape}, the weights {channels} output channels")
        bias = constant.data.astype(np.int64)
    folded = bias - _zero_point(c.input()) * weights.data.astype(np.int64).sum(axis=other_axes)
    in_scale, out_scale = float(c.input().scales[0]), float(c.output.scales[0])
    pairs = [quantize_multiplier(in_scale * float(scale) / out_scale) for scale in weights.scales]
    if any(shift > 30 for _, shift in pairs):
        raise c.error("an output scale is too small for the input and weight scales")
    table = (folded & 0xFFFFFFFF).astype("<u4").tobytes()  # TFLM's accumulator wraps at 32 bits just so
    table += np.array([q for q, _ in pairs], "<i4").tobytes() + np.array([s for _, s in pairs], np.int8).tobytes()
    return table, len(pairs) > 1


def _fully_connected(c: _Context) -> Step:
    if c.op.options["weights_format"] != 0:
        raise c.error("shuffled weights; supported is the default format")
    source, weights = c.input(), c.constant(1, "int8", rank=2)
    channels, depth = weights.shape
    rows = int(np.prod(source.shape)) // depth
    if rows * depth != int(np.prod(source.shape)) or rows * channels != int(np.prod(c.output.shape)):
        raise c.error(f"input {source.shape} and weights {weights.shape} do not give {c.output.shape}")
    table, per_channel = _weights_table(c, weights, 0)
    assert weights.buffer_offset is not None
    return Step(
        "conv", c.op, (source.index,), c.output.index, (1, rows, depth), (1, rows, channels),
        weights_offset=weights.buffer_offset, table=table, per_channel=per_channel, clamp=c.clamp(),
        in_zero_point=_zero_point(source), out_zero_point=_zero_point(c.output),
        lag=window_lag((1, rows, depth), (1, rows, channels), (1, 1), (0, 0)),
    )  # fmt: skip


def _convolution(c: _Context, kind: str, weights: Tensor, channel_axis: int) -> Step:
    source = c.input()
    in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
    kernel = weights.shape[1], weights.shape[2]
    dilation = c.op.options["dilation_h"], c.op.options["dilation_w"]
    strides, pads = c.window(in_hwc, out_hwc, kernel, dilation)
    if weights.shape[channel_axis] != out_hwc[2]:
        raise c.error(f"weights {weights.shape} do not give {out_hwc[2]} channels")
    table, per_channel = _weights_table(c, weights, channel_axis)
    assert weights.buffer_offset is not None
    # Windows are copied together where they are not contiguous or reach over the edge; a 1x1 kernel never does.
    scratch = 0 if kernel == (1, 1) else kernel[0] * kernel[1] * in_hwc[2]
    return Step(
        kind, c.op, (source.index,), c.output.index, in_hwc, out_hwc, kernel, strides, dilation, pads,
        weights_offset=weights.buffer_offset, table=table, scratch_bytes=scratch, per_channel=per_channel,
        in_zero_point=_zero_point(source), out_zero_point=_zero_point(c.output), clamp=c.clamp(),
        lag=window_lag(in_hwc, out_hwc, strides, pads),
    )  # fmt: skip


def _conv_2d(c: _Context) -> Step:
    weights = c.constant(1, "int8", rank=4)
    if weights.shape[3] != c.hwc(c.input())[2]:
        raise c.error(f"weights {weights.shape} on {c.input().shape}: grouped convolution is not supported")
    return _convolution(c, "conv", weights, 0)


def _depthwise_conv_2d(c: _Context) -> Step:
    weights = c.constant(1, "int8", rank=4)
    if weights.shape[0] != 1 or weights.shape[3] % c.hwc(c.input())[2]:
        raise c.error(f"weights {weights.shape} on {c.input().shape}")
    return _convolution(c, "depthwise", weights, 3)


def _pool(kind: str) -> Callable[[_Context], Step]:
    def lower_pool(c: _Context) -> Step:
        source = c.input()
        in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
        kernel = c.op.options["filter_h"], c.op.options["filter_w"]
        strides, pads = c.window(in_hwc, out_hwc, kernel, (1, 1))
        if in_hwc[2] != out_hwc[2]:
            raise c.error(f"{in_hwc[2]} channels in, {out_hwc[2]} out")
        return Step(
            kind, c.op, (source.index,), c.output.index, in_hwc, out_hwc, kernel, strides, padding=pads,
            clamp=c.clamp(), lag=window_lag(in_hwc, out_hwc, strides, pads),
        )  # fmt: skip

    return lower_pool


def _mean(c: _Context) -> Step:
    source, axes_tensor = c.input(), c.constant(1, "int32")
    assert axes_tensor.data is not None
    rank = len(source.shape)
    axes = sorted(
        {int(a) % rank for a in axes_tensor.data.reshape(-1)} - {i for i, n in enumerate(source.shape) if n == 1}
    )
    kept = [n for i, n in enumerate(source.shape[:-1]) if i not in axes]
    if rank - 1 in axes or any(n != 1 for n in kept) or not axes:
        raise c.error(
            f"axes {axes_tensor.data.reshape(-1).tolist()} of {source.shape}; supported is global average pooling"
        )
    channels = source.shape[-1]
    count = int(np.prod(source.shape)) // channels
    multiplier, shift = quantize_multiplier(float(source.scales[0]) / float(c.output.scales[0]))
    # The division by `count` is folded into the multiplier, keeping as many bits as 64 allow.
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier, shift = (multiplier << extra) // count, shift - extra
    return Step(
        "mean", c.op, (source.index,), c.output.index, (1, count, channels), (1, 1, channels),
        in_zero_point=_zero_point(source), out_zero_point=_zero_point(c.output), parameters=(multiplier, shift), lag=0,
    )  # fmt: skip


def _add(c: _Context) -> Step:
    one, two = c.operand(0), c.operand(1)
    twice_max = 2.0 * float(max(one.scales[0], two.scales[0]))
    words: List[int] = []
    for tensor in (one, two):
        words += [_zero_point(tensor), *quantize_multiplier(float(tensor.scales[0]) / twice_max)]
    words += quantize_multiplier(twice_max / (2**_ADD_LEFT_SHIFT * float(c.output.scales[0])))
    if words[-1] > 0:
        raise c.error("the output scale is too small for the input scales")
    if one.shape != two.shape or one.shape != c.output.shape:
        hwc, steps = _broadcast(c, one, two)
        return Step(
            "add_broadcast", c.op, (one.index, two.index), c.output.index, (1, 1, 1), hwc,
            table=struct.pack("<14i", *words, *steps), out_zero_point=_zero_point(c.output), clamp=c.clamp(),
        )  # fmt: skip
    size = int(np.prod(one.shape))
    return Step(
        "add", c.op, (one.index, two.index), c.output.index, (1, 1, size), (1, 1, size),
        table=struct.pack("<8i", *words), out_zero_point=_zero_point(c.output), clamp=c.clamp(), lag=0,
    )  # fmt: skip


def _broadcast(c: _Context, one: Tensor, two: Tensor) -> Tuple[Hwc, List[int]]:
    """The output as height, width, channels, and the steps of both inputs through it."""
    shapes = [(1,) * (4 - len(tensor.shape)) + tuple(tensor.shape) for tensor in (one, two, c.output)]
    out = shapes[2]
    fits = all(len(shape) == 4 for shape in shapes) and out[0] == 1
    if (
        not fits
        or tuple(map(max, shapes[0], shapes[1])) != out
        or any(n not in (1, o) for shape in shapes[:2] for n, o in zip(shape, out))
    ):
        raise c.error(
            f"shapes {one.shape} and {two.shape} to {c.output.shape}; supported is broadcasting of a batch of 1"
        )
    steps: List[int] = []
    for _, height, width, channels in shapes[:2]:
        steps += [width * channels * (height > 1), channels * (width > 1), int(channels > 1)]
    return (out[1], out[2], out[3]), steps


def _concatenation(c: _Context) -> List[Step]:
    if c.op.options["activation"] != "none":
        raise c.error(f"fused {c.op.options['activation']}, which is not supported: train without a fused activation")
    rank = len(c.output.shape)
    axis = int(c.op.options["axis"]) % rank
    rows = int(np.prod(c.output.shape[:axis], dtype=np.int64))
    width = int(np.prod(c.output.shape[axis:], dtype=np.int64))
    steps, at = [], 0
    for position in range(len(c.op.inputs)):
        source = c.operand(position)
        same = len(source.shape) == rank and source.shape[:axis] == c.output.shape[:axis]
        if not same or source.shape[axis + 1 :] != c.output.shape[axis + 1 :]:
            raise c.error(f"input {position} has shape {source.shape}, the output {c.output.shape}")
        if source.scales[0] != c.output.scales[0] or _zero_point(source) != _zero_point(c.output):
            raise c.error(f"input {position} has another scale than the output; supported are equal ones")
        part = int(np.prod(source.shape[axis:], dtype=np.int64))
        steps.append(
            Step("copy", c.op, (source.index,), c.output.index, (1, rows, part), (1, rows, width), padding=(0, at))
        )
        at += part
    if at != width:
        raise c.error(f"the inputs have {at} values a row, the output {width}")
    return steps


def _check_unit_output(c: _Context) -> None:
    if float(c.output.scales[0]) != 1 / 256 or _zero_point(c.output) != -128:
        raise c.error("the output must have scale 1/256 and zero point -128")


def _softmax(c: _Context) -> Step:
    _check_unit_output(c)
    source = c.input()
    depth = source.shape[-1]
    if depth > _MAX_SOFTMAX_DEPTH:
        raise c.error(f"{depth} classes; supported are {_MAX_SOFTMAX_DEPTH}")
    shape = (1, int(np.prod(source.shape)) // depth, depth)
    with c.named_errors():
        exps = softmax_table(float(c.op.options["beta"]), float(source.scales[0]))
    table = struct.pack(f"<{1 + len(exps)}i", len(exps), *exps)
    return Step("softmax", c.op, (source.index,), c.output.index, shape, shape, table=table, lag=0)


def _lookup(c: _Context, table: np.ndarray) -> Step:
    """Each value replaced by its entry in `table`, int8 (256,)."""
    source = c.input()
    if int(np.prod(source.shape)) != int(np.prod(c.output.shape)):
        raise c.error(f"input {source.shape}, output {c.output.shape}")
    shape = (1, 1, int(np.prod(source.shape)))
    return Step("lut", c.op, (source.index,), c.output.index, shape, shape, table=table.tobytes(), lag=0)


def _logistic(c: _Context) -> Step:
    _check_unit_output(c)
    with c.named_errors():
        table = logistic_table(float(c.input().scales[0]), _zero_point(c.input()))
    return _lookup(c, table)


def _relu(c: _Context) -> Step:
    source = c.input()
    with c.named_errors():
        table = relu_table(source.scales[0], _zero_point(source), c.output.scales[0], _zero_point(c.output))
    return _lookup(c, table)


def _relu6(c: _Context) -> Step:
    source = c.input()
    if source.scales[0] != c.output.scales[0] or _zero_point(source) != _zero_point(c.output):
        raise c.error("the input has another scale than the output; supported are equal ones")
    with c.named_errors():
        low, high = activation_range("relu6", source.scales[0], _zero_point(source))
    return _lookup(c, np.clip(np.arange(INT8_MIN, INT8_MAX + 1), low, high).astype(np.int8))


def _pad(c: _Context) -> Step:
    source, amounts = c.input(), c.constant(1, "int32")
    assert amounts.data is not None
    in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
    pairs = amounts.data.reshape(-1, 2).tolist()
    spatial = [[0, 0]] * (4 - len(pairs)) + pairs
    fits = len(spatial) == 4 and [o - i for i, o in zip(in_hwc, out_hwc)] == [sum(p) for p in spatial[1:]]
    if not fits or spatial[0] != [0, 0] or spatial[3] != [0, 0] or min(map(min, spatial)) < 0:
        raise c.error(f"paddings {pairs} of {source.shape}; supported is padding of height and width")
    return Step(
        "pad", c.op, (source.index,), c.output.index, in_hwc, out_hwc,
        padding=(spatial[1][0], spatial[2][0]), out_zero_point=_zero_point(c.output),
    )  # fmt: skip


_ONE_STEP: Dict[str, Callable[[_Context], Step]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool("average_pool"),
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _logistic,
    "MAX_POOL_2D": _pool("max_pool"),
    "MEAN": _mean,
    "PAD": _pad,
    "RELU": _relu,
    "RELU6": _relu6,
    "SOFTMAX": _softmax,
}
SUPPORTED = frozenset([*_ONE_STEP, "CONCATENATION"])
