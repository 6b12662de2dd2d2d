"""Convolutions, and dense layers, which are one of a single pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, List, Optional, Tuple

import numpy as np

from model_export.operator_entry import Agreement, Operator
from model_export.plan_arena import window_lag
from model_export.plan_context import Context, zero_point
from model_export.plan_math import quantize_multiplier
from model_export.plan_steps import Kind, Step
from model_export.roundings import product_in_double, product_in_float, rescale
from model_export.tflite_model import Op, Subgraph, Tensor, TfliteModel
from model_export.tflite_options import ACTIVATION, PADDING, STRIDES, Options, flag, int0, int1, number
from model_export.tflm_structs import Kernel

CONV = Kind("conv", 1)
DEPTHWISE = Kind("depthwise", 2)
GROUPED = Kind("grouped", 17)
"""A convolution in groups of channels; parameter 0: how many.

Table of these three: int32 bias[channels], int32 multiplier[n], int8 shift[n]; n is channels or 1. The weights stay in the
.tflite section as output channel x row x column x input channel; the bias has the input zero point folded in:
bias - zero_point * sum(weights). A dense layer is a CONV of 1x1.
"""
TRANSPOSE_CONV = Kind("transpose_conv", 15)
"""Table: as of CONV, but the bias is the model's."""

_BIAS_TOLERANCE = 0.02  # of a step of the output
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
    whole = rows * depth == int(np.prod(source.shape)) and rows * channels == int(np.prod(c.output.shape))
    if not whole or c.output.shape[-1:] != (channels,):
        raise c.error(f"input {source.shape} and weights {weights.shape} do not give {c.output.shape}")
    table, per_channel = _weights_table(c, weights, 0)
    if not per_channel:
        _check_bias_scale(c, weights)
    assert weights.buffer_offset is not None
    return Step(
        CONV, c.op, (source.index,), c.output.index, (1, rows, depth), (1, rows, channels),
        weights_offset=weights.buffer_offset, table=table, per_channel=per_channel, clamp=c.clamp(),
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output),
        lag=window_lag((1, rows, depth), (1, rows, channels), (1, 1), (0, 0)),
    )  # fmt: skip


def _convolution(c: Context, kind: Kind, weights: Tensor, channel_axis: int) -> Step:
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
        return _convolution(c, CONV, weights, 0)
    return replace(_convolution(c, GROUPED, weights, 0), parameters=(groups,))


def depthwise_conv_2d(c: Context) -> Step:
    weights = c.constant(1, "int8", rank=4)
    if weights.shape[0] != 1 or weights.shape[3] % c.hwc(c.input())[2]:
        raise c.error(f"weights {weights.shape} on {c.input().shape}")
    return _convolution(c, DEPTHWISE, weights, 3)


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
        TRANSPOSE_CONV, c.op, (source.index,), c.output.index, in_hwc, out_hwc, kernel, strides, padding=pads,
        weights_offset=weights.buffer_offset, table=bias.astype("<i4").tobytes() + multipliers, per_channel=per_channel,
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output), clamp=c.clamp(),
    )  # fmt: skip


def dense_agreement(model: TfliteModel, op: Op) -> Optional[Agreement]:
    """The tflite-micro wheel multiplies input and weight scale in double where there is one, esp-tflite-micro 1.4.0 in float."""
    source, weights, output = (model.tensors[i] for i in (op.inputs[0], op.inputs[1], op.outputs[0]))
    constant = weights.data
    if len(weights.scales) != 1 or constant is None:
        return None

    def agree(inputs: np.ndarray) -> np.ndarray:
        centred = inputs.reshape(-1, weights.shape[1]).astype(np.int64) - int(source.zero_points[0])
        sums = centred @ constant.astype(np.int64).T
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            bias = model.tensors[op.inputs[2]].data
            assert bias is not None
            sums = sums + bias.astype(np.int64)
        sums = sums.reshape(len(inputs), -1)
        scales = source.scales[0], weights.scales[0], output.scales[0]
        one, other = (rescale(sums, *way(*scales)) for way in (product_in_double, product_in_float))
        return (one == other).all(1)

    return agree


def _per_channel(axis: int) -> Callable[[TfliteModel, Op], List[int]]:
    """A multiplier and a shift per output channel, which are along this axis of the weights."""

    def sizes(model: TfliteModel, op: Op) -> List[int]:
        channels = model.tensors[op.inputs[1]].shape[axis]
        return [4 * channels, 4 * channels] if channels else []

    return sizes


def _per_scale(model: TfliteModel, op: Op) -> List[int]:
    """A multiplier and a shift per scale of the weights, unless there is one for all."""
    scales = len(model.tensors[op.inputs[1]].scales)
    return [4 * scales, 4 * scales] if scales > 1 else []


_DATA = "iiii" + "iii" + "ii" + "pp" + "iii"
_DILATION = (("dilation_w", int1), ("dilation_h", int1))


def _other_units(graph: Subgraph, op: Op) -> Optional[str]:
    """TFLM believes the output's shape: with fewer rows or columns than weights it would read beyond its tensors."""
    if len(op.inputs) < 2 or min(op.inputs[:2]) < 0 or not op.outputs:
        return None  # refused by TFLM itself
    weights, shape = graph.tensors[op.inputs[1]].shape, graph.tensors[op.outputs[0]].shape
    values = int(np.prod(graph.tensors[op.inputs[0]].shape, dtype=np.int64))
    fits = len(weights) == 2 and shape[-1:] == weights[:1]
    if fits and int(np.prod(shape[:-1], dtype=np.int64)) * weights[1] == values:
        return None
    return f"has weights {weights} for {values} values and an output {shape}, which TFLM does not check"


OPERATORS = (
    Operator(
        "CONV_2D",
        options=Options(1, (PADDING, *STRIDES, ACTIVATION, *_DILATION)),
        kernel=Kernel((28, 4), _DATA, _per_channel(0), weights=True),
        kinds=(CONV, GROUPED),
        plan=conv_2d,
    ),
    Operator(
        "DEPTHWISE_CONV_2D",
        options=Options(2, (PADDING, *STRIDES, ("depth_multiplier", int0), ACTIVATION, *_DILATION)),
        kernel=Kernel((28, 4), _DATA, _per_channel(3), weights=True),
        kinds=(DEPTHWISE,),
        plan=depthwise_conv_2d,
    ),
    Operator(
        "FULLY_CONNECTED",
        options=Options(8, (ACTIVATION, ("weights_format", number("<b", 0)), ("keep_num_dims", flag))),
        kernel=Kernel((16, 4), "iiiiiiiii" + "pp" + "b", _per_scale, weights=True, newer_options_bytes=32),
        kinds=(CONV,),
        plan=fully_connected,
        tflm_stops=_other_units,
        agreement=dense_agreement,
    ),
    Operator(
        "TRANSPOSE_CONV",
        options=Options(49, (PADDING, *STRIDES, ACTIVATION)),
        kernel=Kernel((20, 4), "b" + 8 * "h" + 9 * "i" + "ii" + "pp", _per_channel(0), weights=True, scratch_handles=1),
        kinds=(TRANSPOSE_CONV,),
        plan=transpose_conv,
    ),
)
