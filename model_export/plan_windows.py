"""Operators that move a window over height and width, dense layers among them: what engine/direct must know of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Tuple

import numpy as np

from model_export.plan_arena import window_lag
from model_export.plan_context import Context, zero_point
from model_export.plan_math import quantize_multiplier
from model_export.plan_steps import Step
from model_export.tflite_file import Tensor

_BIAS_TOLERANCE = 0.02  # of a step of the output
_MAX_WINDOW = 1 << 12
_MAX_TAPS = 131071  # products of int8 values one 32-bit accumulator holds


def _weights_table(c: Context, weights: Tensor, channel_axis: int) -> Tuple[bytes, bool]:
    """Table of a conv or depthwise step, and whether it has one multiplier per channel."""
    source = c.input()
    bias = _bias(c, 2, weights.shape[channel_axis])
    multipliers, per_channel = _multipliers(c, source, weights, channel_axis)
    assert weights.data is not None
    other_axes = tuple(a for a in range(len(weights.shape)) if a != channel_axis)
    folded = bias - zero_point(source) * weights.data.astype(np.int64).sum(axis=other_axes)
    # TFLM's accumulator wraps at 32 bits just so.
    return (folded & 0xFFFFFFFF).astype("<u4").tobytes() + multipliers, per_channel


def _bias(c: Context, position: int, channels: int) -> np.ndarray:
    """int64 (channels,): zeros where the operator has none."""
    if len(c.op.inputs) <= position or c.op.inputs[position] < 0:
        return np.zeros(channels, np.int64)
    constant = c.constant(position, "int32", rank=1)
    assert constant.data is not None
    if constant.shape != (channels,):
        raise c.error(f"bias ({constant.name}) has shape {constant.shape}, the weights {channels} output channels")
    return constant.data.astype(np.int64)


def _multipliers(
    c: Context, source: Tensor, weights: Tensor, channel_axis: int, most_taps: int = _MAX_TAPS
) -> Tuple[bytes, bool]:
    """The part of a table behind the bias, and whether it has one multiplier per channel."""
    channels = weights.shape[channel_axis]
    if weights.data is not None and weights.data.size // channels > most_taps:
        raise c.error(f"weights {weights.shape}: more than {most_taps} products per output")
    if len(weights.scales) not in (1, channels) or (len(weights.scales) > 1 and weights.axis != channel_axis):
        raise c.error(f"weights ({weights.name}) have {len(weights.scales)} scales along axis {weights.axis}")
    if np.any(weights.zero_points != 0):
        raise c.error(f"weights ({weights.name}) have a zero point; supported are symmetric weights")
    if not ((weights.scales >= 0) & np.isfinite(weights.scales)).all():
        raise c.error(f"weights ({weights.name}) have a scale that is no positive number")
    in_scale, out_scale = float(source.scales[0]), float(c.output.scales[0])
    pairs = [quantize_multiplier(in_scale * float(scale) / out_scale) for scale in weights.scales]
    if any(shift > 30 for _, shift in pairs):
        raise c.error("an output scale is too small for the input and weight scales")
    table = np.array([q for q, _ in pairs], "<i4").tobytes() + np.array([s for _, s in pairs], np.int8).tobytes()
    return table, len(pairs) > 1


def _check_bias_scale(c: Context, weights: Tensor) -> None:
    """As TFLM does it for dense layers with one scale: the bias is added to products, so it has to be in their scale."""
    if len(c.op.inputs) < 3 or c.op.inputs[2] < 0:
        return
    bias = c.model.tensors[c.op.inputs[2]]
    product = float(c.input().scales[0]) * float(weights.scales[0])
    own = float(bias.scales[0]) if len(bias.scales) else 0.0
    if not abs(product - own) / float(c.output.scales[0]) <= _BIAS_TOLERANCE:
        raise c.error(
            f"bias ({bias.name}) has scale {own:g}, input and weights together {product:g}; they must be equal"
        )


def fully_connected(c: Context) -> Step:
    if c.op.options["weights_format"] != 0:
        raise c.error("shuffled weights; supported is the default format")
    source, weights = c.input(), c.constant(1, "int8", rank=2)
    channels, depth = weights.shape
    rows = int(np.prod(source.shape)) // depth
    if rows * depth != int(np.prod(source.shape)) or rows * channels != int(np.prod(c.output.shape)):
        raise c.error(f"input {source.shape} and weights {weights.shape} do not give {c.output.shape}")
    table, per_channel = _weights_table(c, weights, 0)
    if not per_channel:
        _check_bias_scale(c, weights)
    assert weights.buffer_offset is not None
    return Step(
        "conv", c.op, (source.index,), c.output.index, (1, rows, depth), (1, rows, channels),
        weights_offset=weights.buffer_offset, table=table, per_channel=per_channel, clamp=c.clamp(),
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output),
        lag=window_lag((1, rows, depth), (1, rows, channels), (1, 1), (0, 0)),
    )  # fmt: skip


def _convolution(c: Context, kind: str, weights: Tensor, channel_axis: int) -> Step:
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
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output), clamp=c.clamp(),
        lag=window_lag(in_hwc, out_hwc, strides, pads),
    )  # fmt: skip


def conv_2d(c: Context) -> Step:
    weights = c.constant(1, "int8", rank=4)
    depth, channels = c.hwc(c.input())[2], weights.shape[0]
    if weights.shape[3] < 1 or depth % weights.shape[3] or channels % (depth // weights.shape[3]):
        raise c.error(f"weights {weights.shape} on {c.input().shape}: no groups of channels fit")
    groups = depth // weights.shape[3]
    if groups == 1:
        return _convolution(c, "conv", weights, 0)
    return replace(_convolution(c, "grouped", weights, 0), parameters=(groups,))


def depthwise_conv_2d(c: Context) -> Step:
    weights = c.constant(1, "int8", rank=4)
    if weights.shape[0] != 1 or weights.shape[3] % c.hwc(c.input())[2]:
        raise c.error(f"weights {weights.shape} on {c.input().shape}")
    return _convolution(c, "depthwise", weights, 3)


def transpose_conv(c: Context) -> Step:
    """A window of the input's gradient: what a convolution would make of the output has the shape of the input."""
    source, weights = c.input(2), c.constant(1, "int8", rank=4)
    in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
    kernel = weights.shape[1], weights.shape[2]
    strides, pads = c.window(out_hwc, in_hwc, kernel, (1, 1))
    if (weights.shape[0], weights.shape[3]) != (out_hwc[2], in_hwc[2]):
        raise c.error(f"weights {weights.shape} do not make {out_hwc[2]} channels of {in_hwc[2]}")
    if tuple(c.numbers(0)) != c.output.shape:
        raise c.error(f"the output has shape {c.output.shape}, asked is {tuple(c.numbers(0))}")
    bias = _bias(c, 3, out_hwc[2])
    multipliers, per_channel = _multipliers(c, source, weights, 0, _MAX_TAPS // 2)
    assert weights.buffer_offset is not None
    return Step(
        "transpose_conv", c.op, (source.index,), c.output.index, in_hwc, out_hwc, kernel, strides, padding=pads,
        weights_offset=weights.buffer_offset, table=bias.astype("<i4").tobytes() + multipliers, per_channel=per_channel,
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output), clamp=c.clamp(),
    )  # fmt: skip


def _check_pool_scale(c: Context, source: Tensor) -> None:
    """As strict as TFLM, which lets scales differ by what float32 may lose; and never by what would be seen."""
    scale = float(source.scales[0])
    if abs(scale - float(c.output.scales[0])) > min(1e-6, 1e-3 * scale) or zero_point(source) != zero_point(c.output):
        c.same_scale(source)


def pool(kind: str) -> Callable[[Context], Step]:
    def lower_pool(c: Context) -> Step:
        source = c.input()
        in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
        kernel = c.op.options["filter_h"], c.op.options["filter_w"]
        strides, pads = c.window(in_hwc, out_hwc, kernel, (1, 1))
        if in_hwc[2] != out_hwc[2]:
            raise c.error(f"{in_hwc[2]} channels in, {out_hwc[2]} out")
        _check_pool_scale(c, source)
        return Step(
            kind, c.op, (source.index,), c.output.index, in_hwc, out_hwc, kernel, strides, padding=pads,
            clamp=c.clamp(), lag=window_lag(in_hwc, out_hwc, strides, pads),
        )  # fmt: skip

    return lower_pool


def mean(c: Context) -> Step:
    source = c.input()
    rows, count, channels = _reduced(c, source)
    multiplier, shift = quantize_multiplier(float(source.scales[0]) / float(c.output.scales[0]))
    if shift > 30:
        raise c.error("the output scale is too small for the input scale")
    # The division by `count` is folded into the multiplier, keeping as many bits as 64 allow.
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier, shift = (multiplier << extra) // count, shift - extra
    return Step(
        "mean", c.op, (source.index,), c.output.index, (rows, count, channels), (rows, 1, channels),
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output), parameters=(multiplier, shift),
        lag=0 if rows == 1 else None,
    )  # fmt: skip


def reduce_max(c: Context) -> Step:
    """A pool over all of a row."""
    source = c.input()
    c.same_scale(source)
    rows, count, channels = _reduced(c, source)
    if count > _MAX_WINDOW:
        raise c.error(f"{count} values at a time; supported are {_MAX_WINDOW}")
    return Step(
        "max_pool", c.op, (source.index,), c.output.index, (rows, count, channels), (rows, 1, channels), (1, count),
    )  # fmt: skip


def _reduced(c: Context, source: Tensor) -> Tuple[int, int, int]:
    """The input as rows, values that become one, channels."""
    shape, rank = source.shape, len(source.shape)
    axes = sorted({axis % rank for axis in c.numbers(1)})
    wide = [axis for axis in axes if shape[axis] > 1] or axes[:1]
    between = [axis for axis in range(wide[0], wide[-1]) if shape[axis] > 1 and axis not in axes] if wide else [0]
    kept = [n for axis, n in enumerate(shape) if axis not in axes]
    if between or int(np.prod(kept)) != int(np.prod(c.output.shape)):
        raise c.error(f"axes {axes} of {shape} to {c.output.shape}; supported are axes side by side")
    before, inside, after = shape[: wide[0]], shape[wide[0] : wide[-1] + 1], shape[wide[-1] + 1 :]
    rows, count, channels = (int(np.prod(part, dtype=np.int64)) for part in (before, inside, after))
    return rows, count, channels
