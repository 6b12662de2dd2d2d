"""Read a .tflite flatbuffer without TensorFlow: tensors, constants and their place in the file, operators and options.

Every offset is checked against the file before it is followed, so a damaged file gives TfliteError and nothing else.
Field numbers are those of tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from model_export.errors import TfliteError
from model_export.flatbuffer import FlatFile, FlatTable
from model_export.operators import operators
from model_export.tflite_model import Op, Subgraph, Tensor, TfliteModel
from model_export.tflite_names import OPERATOR_NAMES, TENSOR_TYPES

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
_MOST_ELEMENTS = 2**31 - 1


def read_tflite(blob: bytes) -> TfliteModel:
    """Parse a whole .tflite file; raises TfliteError when it is not one or is damaged."""
    file = FlatFile(bytes(blob))
    if len(file.blob) < 8 or file.blob[4:8] != IDENTIFIER:
        raise TfliteError(f"not a .tflite file: no {IDENTIFIER.decode()} identifier at byte 4")
    model = file.table(file.follow(0, "root"), "model")
    version = model.scalar(0, "<I", 0)
    if version != SCHEMA_VERSION:
        raise TfliteError(f"schema version {version}, this reader knows {SCHEMA_VERSION}")
    codes = [_operator_code(table) for table in model.tables(1, "operator codes")]
    buffers = [_buffer(table) for table in model.tables(4, "buffers")]
    subgraphs = tuple(_subgraph(table, codes, buffers) for table in model.tables(2, "subgraphs"))
    if not subgraphs:
        raise TfliteError("the model has no subgraph")
    return TfliteModel(model.text(3), subgraphs)


def single_edges(model: TfliteModel) -> Tuple[Tensor, Tensor]:
    """The one input and the one output. Raises TfliteError naming them where there are several, or none."""
    sides = (("input", model.inputs), ("output", model.outputs))
    if any(len(indices) != 1 for _, indices in sides):
        found = (
            f"{len(indices)} {side}{'s' * (len(indices) != 1)} ({', '.join(model.tensors[i].name for i in indices)})"
            for side, indices in sides
        )
        raise TfliteError(f"the model has {' and '.join(found)}; accepted is one each")
    return model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]


_Code = Tuple[str, int, int]
_Bytes = Optional[Tuple[int, int]]


def _operator_code(table: FlatTable) -> _Code:
    # Two fields for one number: files older than code 127 only have the first, newer ones fill both.
    code = max(table.scalar(0, "<b", 0), table.scalar(3, "<i", 0))
    if not 0 <= code < len(OPERATOR_NAMES):
        raise TfliteError(f"{table.what}: unknown builtin operator {code}")
    name = OPERATOR_NAMES[code]
    return (f"CUSTOM:{table.text(1)}" if name == "CUSTOM" else name), code, table.scalar(2, "<i", 1)


def _buffer(table: FlatTable) -> _Bytes:
    """Where the content of a buffer lies: (position, bytes), or None for the empty buffer of a computed tensor."""
    position, count = table.raw(0)
    if count:
        return position, count
    position, count = table.scalar(1, "<Q", 0), table.scalar(2, "<Q", 0)
    if position > 1 and count:  # content appended behind the flatbuffer (files over 2 GB)
        table.file.check(position, count, table.what)
        return position, count
    return None


def _subgraph(table: FlatTable, codes: List[_Code], buffers: List[_Bytes]) -> Subgraph:
    tensors = tuple(_tensor(i, t, buffers) for i, t in enumerate(table.tables(0, f"{table.what}.tensors")))
    ops = tuple(_op(i, t, codes, len(tensors)) for i, t in enumerate(table.tables(3, f"{table.what}.operators")))
    inputs = _indices(table, 1, len(tensors), optional=False)
    outputs = _indices(table, 2, len(tensors), optional=False)
    _check_order(table.what, tensors, ops, inputs)
    return Subgraph(table.text(4), tensors, ops, inputs, outputs)


def _check_order(what: str, tensors: Tuple[Tensor, ...], ops: Tuple[Op, ...], inputs: Tuple[int, ...]) -> None:
    """Nothing is read before it is written, and what is there from the beginning, or written once, is not written again.

    Operators run in the order of the file. TFLM asks none of this: it computes with whatever lies in its arena.
    """
    there = {tensor.index for tensor in tensors if tensor.is_variable or tensor.data is not None}
    for index in inputs:
        if tensors[index].data is not None:
            raise TfliteError(f"{what}: its input {index} ({tensors[index].name}) is a constant")
    there.update(inputs)
    for op in ops:
        custom = op.code.startswith("CUSTOM:")  # the scratch memory of some is among their inputs
        for index in () if custom else op.inputs:
            if index >= 0 and index not in there and 0 not in tensors[index].shape:
                raise TfliteError(
                    f"{what}: operator {op.index} ({op.code}) reads tensor {index} ({tensors[index].name}) "
                    "before anything wrote it"
                )
        for index in op.outputs:
            if index in there:
                raise TfliteError(
                    f"{what}: operator {op.index} ({op.code}) writes tensor {index} ({tensors[index].name}), "
                    "which is an input, a constant, a variable or the output of an earlier operator"
                )
            there.add(index)


def _indices(table: FlatTable, field: int, tensors: int, optional: bool) -> Tuple[int, ...]:
    values = tuple(int(v) for v in table.vector(field, "<i4"))
    for value in values:
        if not (-1 if optional else 0) <= value < tensors:
            raise TfliteError(f"{table.what}: refers to tensor {value} of {tensors}")
    return values


def _tensor(index: int, table: FlatTable, buffers: List[_Bytes]) -> Tensor:
    name = table.text(3)
    what = f"{table.what} ({name})"
    shape = tuple(int(v) for v in table.vector(0, "<i4"))
    if any(v < 0 for v in shape):
        raise TfliteError(f"{what}: negative dimension in shape {shape}")
    if math.prod(max(v, 1) for v in shape) > _MOST_ELEMENTS:
        raise TfliteError(f"{what}: shape {shape} has more elements than 32 bits count, as TFLM does")
    kind = table.scalar(1, "<b", 0)
    if not 0 <= kind < len(TENSOR_TYPES):
        raise TfliteError(f"{what}: unknown tensor type {kind}")
    dtype = TENSOR_TYPES[kind]
    buffer = table.scalar(2, "<I", 0)
    if buffer >= len(buffers):
        raise TfliteError(f"{what}: refers to buffer {buffer} of {len(buffers)}")
    sparse = table.sub(6, f"{what}.sparsity") is not None
    data, position = None, None
    place = buffers[buffer] if buffer else None
    if place is not None:
        position, count = place
        data = _constant(table.file.blob, position, count, dtype, shape, sparse, what)
    scales, zero_points, axis = _quantization(table.sub(4, f"{what}.quantization"), what)
    variable = bool(table.scalar(5, "<b", 0))
    if variable and data is not None:
        raise TfliteError(f"{what}: a variable with the content of a constant, which TFLM would write over")
    return Tensor(index, name, shape, dtype, scales, zero_points, axis, data, position, variable, sparse)


_NUMPY_TYPES = {"float32", "float16", "int32", "uint8", "int64", "int16", "complex64", "int8", "float64", "complex128"}
_NUMPY_TYPES |= {"uint64", "uint32", "uint16", "bool"}


def _constant(
    blob: bytes, position: int, count: int, dtype: str, shape: Tuple[int, ...], sparse: bool, what: str
) -> np.ndarray:
    if dtype not in _NUMPY_TYPES or sparse:
        return np.frombuffer(blob, np.uint8, count, position)
    item = np.dtype(dtype).newbyteorder("<")
    items = 1
    for dimension in shape:
        items *= dimension
    if items * item.itemsize != count:
        raise TfliteError(
            f"{what}: shape {shape} of {dtype} needs {items * item.itemsize} bytes, the buffer has {count}"
        )
    return np.frombuffer(blob, item, items, position).reshape(shape)


def _quantization(table: Optional[FlatTable], what: str) -> Tuple[np.ndarray, np.ndarray, int]:
    if table is None:
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    scales = table.vector(2, "<f4").astype(np.float32)
    zero_points = table.vector(3, "<i8").astype(np.int64)
    axis = table.scalar(6, "<i", 0)
    if len(scales) != len(zero_points):  # without zero points, TFLM would compute as if there were no scales either
        raise TfliteError(f"{what}: {len(scales)} scales but {len(zero_points)} zero points")
    return scales, zero_points, axis


def _op(index: int, table: FlatTable, codes: List[_Code], tensors: int) -> Op:
    which = table.scalar(0, "<I", 0)
    if which >= len(codes):
        raise TfliteError(f"{table.what}: refers to operator code {which} of {len(codes)}")
    name, code, version = codes[which]
    inputs = _indices(table, 1, tensors, optional=True)
    outputs = _indices(table, 2, tensors, optional=False)
    options: Dict[str, Any] = {}
    entry = operators().get(name)
    known = entry.options if entry else None
    if known is not None:
        found = table.scalar(3, "<B", 0)
        options_table = table.sub(4, f"{table.what}.{name} options") if found else None
        if found and found != known.table:
            raise TfliteError(f"{table.what}: {name} carries options of type {found}, not {known.table}")
        options = {key: read(options_table, field) for field, (key, read) in enumerate(known.fields) if key}
    return Op(index, name, code, version, inputs, outputs, options)
