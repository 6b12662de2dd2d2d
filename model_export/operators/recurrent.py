"""Layers that carry a state from one step of a series to the next."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import List, Tuple

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context, zero_point
from model_export.plan_math import quantize_multiplier
from model_export.plan_steps import KeptTensors, Kind, Step
from model_export.roundings import product_in_float
from model_export.tflite_model import Op, Tensor, TfliteModel
from model_export.tflite_options import ACTIVATION, Options, flag, number
from model_export.tflm_structs import Kernel

LSTM = Kind("lstm", 19)
"""Shapes: 1 x steps x values. Output zero point: of the hidden state. Second input or scratch: int16 cell[units] from an even
address, then int8 hidden[units]. Parameter 0: 1 where they are kept from row to row, without scratch; else 0.

Table, in 32-bit words: for each gate (input, forget, cell, output) offset of its input weights in the .tflite section and of its
recurrent weights, multiplier and shift of both sums; multiplier and shift of forget gate x cell, input gate x cell gate,
tanh(cell) x output gate; by what the cell is multiplied and shifted right for tanh; the clip of the cell, 0 for none. Then for
each gate int32 bias[units] of both sums with the zero points folded in, and uint16 sigmoid[256].
"""

GATES = ("input", "forget", "cell", "output")
_INPUTS = 24
_WEIGHTS, _RECURRENT, _BIAS, _HIDDEN, _CELL = 1, 5, 12, 18, 19
"""Places among an operator's inputs; the first three are of four gates each."""
_VARIANTS = {9: "a peephole", 16: "a projection", 20: "layer normalization"}
_MAX_TAPS = 131071  # products of int8 values one 32-bit accumulator holds
_GATE_BITS, _CELL_BITS = 12, 15  # behind the point: of what sigmoid and tanh are computed of, and of what they give
_MAX_TANH_SHIFT = 13  # int16 times 3, shifted left, has 32 bits

_ONE_MORE = (
    4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46, 49, 50, 54, 62,
    63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255,
)  # fmt: skip


def sigmoid_table() -> np.ndarray:
    """uint16 (256,): sigmoid(i / 24) in units of 2^-16, as TFLM has it: at some places one above the nearest number."""
    table = np.rint(2**16 / (1 + np.exp(-np.arange(256) / 24)))
    table[list(_ONE_MORE)] += 1
    return np.minimum(table, 2**16 - 1).astype(np.uint16)


def steps_of(model: TfliteModel, op: Op) -> int:
    """How many steps of a series one inference computes."""
    shape = model.tensors[op.inputs[0]].shape
    return shape[0 if op.options["time_major"] else 1] if len(shape) == 3 else 0


def each_row_a_series(model: TfliteModel) -> bool:
    """Whether a row is a whole series, so that the state of the layers above begins again with each.

    Of a layer with a single step a row is one step of a series, and what else keeps a state is asked row by row: then it stays.
    """
    main = model.subgraphs[0]
    layers = [op for op in main.ops if op.code == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    theirs = {index for op in layers for index in op.inputs[_HIDDEN : _CELL + 1]}
    others = any(tensor.is_variable and tensor.index not in theirs for tensor in main.tensors)
    others = others or len(theirs) < 2 * len(layers)  # one goes on with what another left
    alone = len(model.subgraphs) == 1 and not others and all(tensor.dtype != "resource" for tensor in main.tensors)
    return alone and bool(layers) and min(steps_of(model, op) for op in layers) > 1


def lstm(c: Context) -> Step:
    source, hidden, cell, steps = _shapes(c)
    units, width = c.output.shape[2], source.shape[2]
    gates, biases = b"", b""
    for gate in range(len(GATES)):
        bias = c.constant(_BIAS + gate, "int32", rank=1)
        assert bias.data is not None
        if bias.shape != (units,):
            raise c.error(f"input {_BIAS + gate} ({bias.name}) has shape {bias.shape} for {units} units")
        of_input = _sum(c, _WEIGHTS + gate, (units, width), source, bias.data.astype(np.int64))
        of_hidden = _sum(c, _RECURRENT + gate, (units, units), hidden, np.zeros(units, np.int64))
        gates += struct.pack("<2I4i", of_input[0], of_hidden[0], *of_input[1], *of_hidden[1])
        biases += of_input[2] + of_hidden[2]
    table = gates + _products(c, hidden, cell) + _tanh(c, cell) + struct.pack("<i", _clip(c, cell))
    step = Step(
        LSTM, c.op, (source.index,), c.output.index, (1, steps, width), (1, steps, units),
        table=table + biases + sigmoid_table().astype("<u2").tobytes(),
        in_zero_point=zero_point(source), out_zero_point=zero_point(hidden),
    )  # fmt: skip
    if each_row_a_series(c.model):
        return replace(step, scratch_bytes=3 * units + 1)
    keeps = KeptTensors(cell.index, ((2 * units, 0), (units, zero_point(hidden))))
    return replace(step, inputs=(source.index, cell.index), keeps=keeps, parameters=(1,))


def _shapes(c: Context) -> Tuple[Tensor, Tensor, Tensor, int]:
    """(input, hidden state, cell state, steps) of a layer with nothing but gates, states and biases."""
    op, source = c.op, c.input()
    if len(op.inputs) != _INPUTS:
        raise c.error(f"{len(op.inputs)} inputs; supported is {_INPUTS}")
    for first, name in _VARIANTS.items():
        if any(index >= 0 for index in op.inputs[first : first + (2 if first == 16 else 4 if first == 20 else 3)]):
            raise c.error(f"{name}, which is not supported")
    if op.options["activation"] != "tanh":
        raise c.error(f"activation {op.options['activation']}; supported is tanh")
    shape = source.shape
    batch, steps = (1, 0) if op.options["time_major"] else (0, 1)
    if len(shape) != 3 or shape[batch] != 1 or c.output.shape[:2] != shape[:2] or len(c.output.shape) != 3:
        raise c.error(f"input {shape} and output {c.output.shape}; supported is a series of one record")
    hidden, cell = c.state(_HIDDEN, "int8"), c.state(_CELL, "int16")
    for state in (hidden, cell):
        if state.shape != (1, c.output.shape[2]):
            raise c.error(f"the state {state.name} has shape {state.shape} for {c.output.shape[2]} units")
    return source, hidden, cell, shape[steps]


def _sum(
    c: Context, position: int, shape: Tuple[int, int], source: Tensor, bias: np.ndarray
) -> Tuple[int, Tuple[int, int], bytes]:
    """(offset of the weights, multiplier and shift, bias with the zero point of `source` folded in) of a gate's sum."""
    weights = c.constant(position, "int8", rank=2)
    assert weights.data is not None
    assert weights.buffer_offset is not None
    if weights.shape != shape:
        raise c.error(f"input {position} ({weights.name}) has shape {weights.shape}; needed is {shape}")
    if len(weights.scales) != 1 or int(weights.zero_points[0]) != 0 or not 0 < float(weights.scales[0]) < math.inf:
        raise c.error(f"input {position} ({weights.name}) must have one scale above 0, and zero point 0")
    if shape[1] > _MAX_TAPS:
        raise c.error(f"{shape[1]} values a step; supported are {_MAX_TAPS}")
    scale = product_in_float(source.scales[0], weights.scales[0], np.float32(2.0**-_GATE_BITS))
    _check_shift(c, scale[1], weights.name)
    folded = bias - zero_point(source) * weights.data.astype(np.int64).sum(axis=1)
    return weights.buffer_offset, scale, (folded & 0xFFFFFFFF).astype("<u4").tobytes()


def _products(c: Context, hidden: Tensor, cell: Tensor) -> bytes:
    one = 2.0**-_CELL_BITS
    of_cell, of_hidden = float(cell.scales[0]), float(hidden.scales[0])
    found: List[int] = []
    for real in (one * of_cell / of_cell, one * one / of_cell, one * one / of_hidden):
        multiplier, shift = quantize_multiplier(real)
        _check_shift(c, shift, "a product of gates")
        found += [multiplier, shift]
    return struct.pack("<6i", *found)


def _check_shift(c: Context, shift: int, what: str) -> None:
    if shift > 30:
        raise c.error(f"the scales of {what} are too far apart for 32 bits")


def _tanh(c: Context, cell: Tensor) -> bytes:
    """By what a cell's value is multiplied, and shifted right, to be three times itself in steps of 2^-12."""
    left = _CELL_BITS - 3 + round(math.log2(float(cell.scales[0])))
    if not -_MAX_TANH_SHIFT <= left <= _MAX_TANH_SHIFT:
        raise c.error(f"the cell ({cell.name}) has scale {float(cell.scales[0]):g}, too far from 2^-12")
    return struct.pack("<2i", 3 << max(left, 0), max(-left, 0))


def _clip(c: Context, cell: Tensor) -> int:
    """The largest absolute value of a cell; 0 where there is no limit."""
    clip = float(c.op.options["cell_clip"])
    if not clip > 0:
        return 0
    steps = int(min(clip / float(cell.scales[0]), 32767.0))
    if steps == 0:
        raise c.error(f"the cell is clipped at {clip:g}, less than a step of it")
    return steps


_DENSE_PARAMETERS = "iiiiiiiii" + "bbbb"
_PRODUCT_PARAMETERS = "d" + 13 * "i" + "dd" + "hh" + 5 * "i"  # begins with an enum of a byte, and is aligned to 8
_DATA = "biiii" + "ihi" + "i" + 8 * _DENSE_PARAMETERS + 3 * _PRODUCT_PARAMETERS + "iiii"
OPERATORS = (
    Operator(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        options=Options(
            71, (ACTIVATION, ("cell_clip", number("<f", 0.0)), ("proj_clip", number("<f", 0.0)), ("time_major", flag))
        ),
        kernel=Kernel((16, 4), _DATA, scratch_handles=4),
        kinds=(LSTM,),
        plan=lstm,
    ),
)
