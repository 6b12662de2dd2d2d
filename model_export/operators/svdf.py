"""Filters over time: dense layers whose last values are kept, and weighted together."""

from __future__ import annotations

import struct
from typing import Callable, Optional, Tuple

import numpy as np

from model_export.operator_entry import Agreement, Operator
from model_export.plan_context import Context, zero_point
from model_export.plan_steps import KeptTensors, Kind, Step
from model_export.roundings import product_in_double, quotient_in_float, rescale
from model_export.tflite_model import Op, Subgraph, Tensor, TfliteModel
from model_export.tflite_options import ACTIVATION, Options, int0
from model_export.tflm_structs import Kernel

SVDF = Kind("svdf", 20)
"""Shapes: flat. Weights: of the features, int8[filters][values]. Second input: the memory, int16 or int8[filters][steps], the
newest last. Parameters: steps; rank, how many filters make one output; 1 where the memory is int16, else 0; its zero point.

Table, in 32-bit words: multiplier and shift of the features, of the outputs; offset of the weights over time in the .tflite
section, of the memory's type, [filters][steps]; then int32 bias[filters] of the features (the input's zero point), and
bias[outputs].
"""

_FEATURE, _TIME, _BIAS, _STATE = 1, 2, 3, 4
_MAX_VALUES = (2**31 - 1) // (128 * 255)  # of an input, whose products one 32-bit accumulator holds
_BIAS_TOLERANCE = 1e-5  # of its scale, absolute, as in TFLM


def svdf(c: Context) -> Step:
    source, rank = c.input(), c.op.options["rank"]
    if len(c.op.inputs) != 5:
        raise c.error(f"{len(c.op.inputs)} inputs; needed are 5")
    feature, bias = _weights(c, _FEATURE, "int8"), c.constant(_BIAS, "int32", rank=1)
    kind = "int16" if c.model.tensors[c.op.inputs[_TIME]].dtype == "int16" else "int8"
    time, state = _weights(c, _TIME, kind), c.state(_STATE, kind)
    assert feature.data is not None
    assert feature.buffer_offset is not None
    assert time.buffer_offset is not None
    assert bias.data is not None
    (filters, width), steps = feature.shape, time.shape[1]
    units = filters // rank if rank > 0 and filters % rank == 0 else 0
    shapes = (source.shape, c.output.shape, time.shape, bias.shape, state.shape)
    if not units or shapes != ((1, width), (1, units), (filters, steps), (units,), (1, filters * steps)):
        raise c.error(
            f"input {source.shape}, output {c.output.shape}, features {feature.shape}, time {time.shape}, bias {bias.shape}, "
            f"state {state.shape} and rank {rank} do not fit; supported is one record"
        )
    if width > _MAX_VALUES:
        raise c.error(f"{width} values; supported are {_MAX_VALUES}")
    if len(bias.scales) != 1 or not _same(float(bias.scales[0]), state, time):
        raise c.error(
            f"the scale of the bias ({bias.name}) is not that of the state times that of the weights over time"
        )
    scales = (*_scale(c, source, feature, state), *_scale(c, state, time, c.output))
    folded = -zero_point(source) * feature.data.astype(np.int64).sum(axis=1)
    words = np.concatenate([folded, bias.data.astype(np.int64)]) & 0xFFFFFFFF
    table = struct.pack("<4iI", *scales, time.buffer_offset) + words.astype("<u4").tobytes()
    bytes_kept = filters * steps * (2 if kind == "int16" else 1)
    return Step(
        SVDF, c.op, (source.index, state.index), c.output.index, (1, 1, width), (1, 1, units),
        weights_offset=feature.buffer_offset, table=table,
        in_zero_point=zero_point(source), out_zero_point=zero_point(c.output),
        parameters=(steps, rank, int(kind == "int16"), zero_point(state)),
        keeps=KeptTensors(state.index, ((bytes_kept, 0 if kind == "int16" else zero_point(state)),)),
    )  # fmt: skip


def _weights(c: Context, position: int, dtype: str) -> Tensor:
    weights = c.constant(position, dtype, rank=2)
    if len(weights.scales) != 1 or int(weights.zero_points[0]) != 0 or not 0 < float(weights.scales[0]) < np.inf:
        raise c.error(f"input {position} ({weights.name}) must have one scale above 0, and zero point 0")
    if 0 in weights.shape:
        raise c.error(f"input {position} ({weights.name}) has the empty shape {weights.shape}")
    return weights


def _same(bias: float, state: Tensor, time: Tensor) -> bool:
    """By both: versions of TFLM multiply in float or in double."""
    with np.errstate(over="ignore"):
        products = (
            float(state.scales[0]) * float(time.scales[0]),
            float(np.float32(state.scales[0]) * np.float32(time.scales[0])),
        )
    return all(abs(bias - product) < _BIAS_TOLERANCE for product in products)


def _scale(c: Context, source: Tensor, weights: Tensor, result: Tensor) -> Tuple[int, int]:
    multiplier, shift = product_in_double(source.scales[0], weights.scales[0], result.scales[0])
    if shift > 30:
        raise c.error(f"the scales of {source.name}, {weights.name} and {result.name} are too far apart for 32 bits")
    return multiplier, shift


def agreement(model: TfliteModel, op: Op) -> Optional[Agreement]:
    """The tflite-micro wheel multiplies and divides scales in double, earlier versions of TFLM in float."""
    source, feature, time, bias, state = (model.tensors[index] for index in op.inputs)
    output = model.tensors[op.outputs[0]]
    if feature.data is None or time.data is None or bias.data is None or feature.dtype != "int8":
        return None
    over_time, shift, by_feature = (part.astype(np.int64) for part in (time.data, bias.data, feature.data))
    held_as, zero = np.dtype(time.dtype), int(state.zero_points[0])
    widest = np.iinfo(held_as)

    def outputs(inputs: np.ndarray, way: Callable[[np.float32, np.float32, np.float32], Tuple[int, int]]) -> np.ndarray:
        values = rescale(
            (inputs - int(source.zero_points[0])) @ by_feature.T,
            *way(source.scales[0], feature.scales[0], state.scales[0]),
        )
        held = (values.clip(widest.min, widest.max) + zero).astype(held_as).astype(np.int64) - zero
        before = np.zeros((over_time.shape[1] - 1, len(over_time)), np.int64)
        if time.dtype == "int16":
            before -= zero  # its bytes begin as 0
        windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([before, held]), over_time.shape[1], axis=0)
        sums = (windows * over_time).sum(2).reshape(len(inputs), len(shift), -1).sum(2) + shift
        sums = sums.astype(np.int32).astype(np.int64)  # they wrap
        found = rescale(sums, *way(state.scales[0], time.scales[0], output.scales[0])) + int(output.zero_points[0])
        return found.clip(-128, 127)

    def agree(inputs: np.ndarray) -> np.ndarray:
        rows = inputs.reshape(len(inputs), -1).astype(np.int64)
        return (outputs(rows, product_in_double) == outputs(rows, quotient_in_float)).all(1)

    return agree


def _unchecked(graph: Subgraph, op: Op) -> Optional[str]:
    if len(op.inputs) != 5 or min(op.inputs[:_BIAS], default=-1) < 0 or op.inputs[_STATE] < 0:
        return None  # refused by TFLM itself
    if op.inputs[_BIAS] < 0:
        return "has no bias, which TFLM reads all the same"
    if op.options["rank"] == 0:
        return "has rank 0, by which TFLM divides"
    time, state = graph.tensors[op.inputs[_TIME]], graph.tensors[op.inputs[_STATE]]
    if time.dtype != state.dtype:
        return f"has a state of {state.dtype}, which TFLM takes for {time.dtype}"
    if any(0 in graph.tensors[index].shape for index in op.inputs):
        return "has an empty tensor, which TFLM moves in without end"
    return None


OPERATORS = (
    Operator(
        "SVDF",
        options=Options(6, (("rank", int0), ACTIVATION)),
        kernel=Kernel((12, 4), 9 * "i", scratch_handles=2),
        kinds=(SVDF,),
        plan=svdf,
        agreement=agreement,
        tflm_stops=_unchecked,
    ),
)
