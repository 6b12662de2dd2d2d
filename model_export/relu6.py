"""RELU6 that changes the scale: TensorFlow Lite Micro leaves the values as they are, and what follows takes them for others.

Its RELU rescales. Where 127 of the output stands for 6 or less, which is how converters write it, RELU ends there as well: such
operators become RELU, and nothing of the file moves.
"""

from __future__ import annotations

import struct
from typing import List, Set

import numpy as np

from model_export.errors import TfliteError
from model_export.flatbuffer import FlatFile, FlatTable
from model_export.plan_math import INT8_MAX, activation_range
from model_export.tflite_file import read_tflite
from model_export.tflite_model import Op, TfliteModel
from model_export.tflite_names import OPERATOR_NAMES

_CODES, _SUBGRAPHS, _OPERATORS = 1, 2, 3  # fields of a model, and of a subgraph
_OLD_CODE, _CODE = 0, 3  # fields of an operator code
_WHICH_CODE = 0  # field of an operator
_RELU = OPERATOR_NAMES.index("RELU")


def rescaling_relu6(model: TfliteModel) -> List[int]:
    """Operators RELU6 from int8 to int8 whose output has another scale or zero point than their input."""
    return [op.index for op in model.ops if op.code == "RELU6" and _is_int8(model, op) and not _same_scale(model, op)]


def relu6_as_relu(tflite: bytes) -> bytes:
    """The file with RELU for RELU6 that changes the scale; unchanged where it has none, or where RELU would not end at 6.

    Raises TfliteError for a damaged file.
    """
    model = read_tflite(tflite)
    wanted = {index for index in rescaling_relu6(model) if _ends_at_six(model, model.ops[index])}
    if not wanted:
        return tflite
    file = FlatFile(bytes(tflite))
    root = file.table(file.follow(0, "root"), "model")
    codes = root.tables(_CODES, "operator codes")
    operators = root.tables(_SUBGRAPHS, "subgraphs")[0].tables(_OPERATORS, "operators")
    out = bytearray(tflite)
    for code in {operators[index].scalar(_WHICH_CODE, "<I", 0) for index in wanted}:
        _change(out, model, wanted, codes, operators, code)
    changed = read_tflite(bytes(out))
    if [(op.inputs, op.outputs) for op in changed.ops] != [(op.inputs, op.outputs) for op in model.ops]:
        raise TfliteError("the parts of this file share bytes, so its RELU6 cannot become RELU")
    return bytes(out)


def _change(
    out: bytearray, model: TfliteModel, wanted: Set[int], codes: List[FlatTable], operators: List[FlatTable], code: int
) -> None:
    """Makes the operators of RELU6 `code` that are wanted RELU: all with their code where no other needs it."""
    users = [index for index, table in enumerate(operators) if table.scalar(_WHICH_CODE, "<I", 0) == code]
    if all(_is_int8(model, model.ops[index]) and _ends_at_six(model, model.ops[index]) for index in users):
        for field, fmt in ((_OLD_CODE, "<b"), (_CODE, "<i")):
            at = codes[code].where(field)
            if at is not None:
                struct.pack_into(fmt, out, at, _RELU)
        return
    others = [i for i, t in enumerate(codes) if max(t.scalar(_OLD_CODE, "<b", 0), t.scalar(_CODE, "<i", 0)) == _RELU]
    for index in wanted & set(users):
        at = operators[index].where(_WHICH_CODE)
        if others and at is not None:
            struct.pack_into("<I", out, at, others[0])


def _is_int8(model: TfliteModel, op: Op) -> bool:
    if len(op.inputs) != 1 or len(op.outputs) != 1 or op.inputs[0] < 0:
        return False
    tensors = [model.tensors[index] for index in (*op.inputs, *op.outputs)]
    return all(tensor.dtype == "int8" and len(tensor.scales) == 1 for tensor in tensors)


def _same_scale(model: TfliteModel, op: Op) -> bool:
    source, output = model.tensors[op.inputs[0]], model.tensors[op.outputs[0]]
    return bool(source.scales[0] == output.scales[0] and source.zero_points[0] == output.zero_points[0])


def _ends_at_six(model: TfliteModel, op: Op) -> bool:
    output = model.tensors[op.outputs[0]]
    scale = np.float32(output.scales[0])
    if not 0 < scale < np.inf:
        return False
    try:
        return activation_range("relu6", scale, int(output.zero_points[0]))[1] == INT8_MAX
    except ValueError:  # a scale so small that 6 is beyond 32 bits in it
        return False
