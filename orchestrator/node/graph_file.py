"""A function of a training graph as a node knows it, and the .tflite file that is made of it for the runtime."""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from model_export.flatbuffer import Blob, Fields, write_flatbuffer
from model_export.tflite_names import OPERATOR_NAMES
from orchestrator.node.graph_ops import RULES
from orchestrator.node.graph_shapes import BOOL, FLOAT, INT, Known

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
TYPES = {0: FLOAT, 2: INT, 6: BOOL}
ITEM_BYTES = {FLOAT: 4, INT: 4, BOOL: 1}
_NUMBERS = {name: number for number, name in TYPES.items()}


class Operation(NamedTuple):
    """An operator of a function: `inputs` (-1: left out) and `outputs` by tensor index, `options` by field name."""

    name: str
    version: int
    inputs: Tuple[int, ...]
    outputs: Tuple[int, ...]
    options: Dict[str, Any]


class Function(NamedTuple):
    """A signature. inputs: w, x and, of a gradient, y, sw; outputs: g, loss, or logits. memory_bytes: of all tensors, at most."""

    tensors: Tuple[Known, ...]
    operations: Tuple[Operation, ...]
    inputs: Tuple[int, ...]
    outputs: Tuple[int, ...]
    memory_bytes: int


def tflite_file(function: Function) -> bytes:
    """A .tflite file of this function alone: one subgraph, no names, no signature, the same for equal functions."""
    codes = sorted({(operation.name, operation.version) for operation in function.operations})
    buffers: List[Fields] = [{}]  # the first is that of computed tensors
    tensors: List[Fields] = []
    for tensor in function.tensors:
        fields: Fields = {0: Blob(np.asarray(tensor.shape, "<i4")), 1: ("<b", _NUMBERS[tensor.dtype]), 2: ("<I", 0)}
        if tensor.data is not None:
            fields[2] = ("<I", len(buffers))
            buffers.append({0: Blob(tensor.data.ravel().view(np.uint8), 16)})
        tensors.append({**fields, 3: "", 8: ("<?", True)})
    subgraph: Fields = {
        0: tensors,
        1: Blob(np.asarray(function.inputs, "<i4")),
        2: Blob(np.asarray(function.outputs, "<i4")),
        3: [_operator(op, codes.index((op.name, op.version))) for op in function.operations],
    }
    code_tables: List[Fields] = [
        {0: ("<b", min(OPERATOR_NAMES.index(name), 127)), 2: ("<i", version), 3: ("<i", OPERATOR_NAMES.index(name))}
        for name, version in codes
    ]
    return write_flatbuffer({0: ("<I", SCHEMA_VERSION), 1: code_tables, 2: [subgraph], 3: "", 4: buffers}, IDENTIFIER)


def _operator(operation: Operation, code: int) -> Fields:
    rule = RULES[operation.name]
    fields: Fields = {
        0: ("<I", code),
        1: Blob(np.asarray(operation.inputs, "<i4")),
        2: Blob(np.asarray(operation.outputs, "<i4")),
    }
    if rule.options:
        options: Fields = {option.field: (option.fmt, operation.options[option.name]) for option in rule.options}
        fields.update({3: ("<B", rule.table), 4: options})
    return fields
