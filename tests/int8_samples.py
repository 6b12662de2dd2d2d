"""Int8 .tflite files written table by table, right or wrong, without TensorFlow."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from model_export.flatbuffer import Blob, Fields, write_flatbuffer
from model_export.tflite_names import OPERATOR_NAMES, TENSOR_TYPES


class Made(NamedTuple):
    """A tensor of a file. data: of a constant."""

    shape: Tuple[int, ...]
    kind: str = "int8"
    scales: Sequence[float] = (0.05,)
    zero_points: Sequence[int] = (3,)
    data: Optional[np.ndarray] = None
    axis: int = 0
    more: Fields = {}  # noqa: RUF012 (fields of the tensor's table besides)


class Operator(NamedTuple):
    name: str
    version: int
    inputs: Tuple[int, ...]
    outputs: Tuple[int, ...]
    options: Tuple[int, Fields] = (0, {})


def classifier(**changes: Any) -> Tuple[List[Made], List[Operator]]:
    """3 inputs, 4 outputs, softmax. changes: of tensors, by name."""
    draw = np.random.default_rng(2)
    tensors: Dict[str, Made] = {
        "x": Made((1, 3)),
        "kernel": Made((4, 3), scales=(0.02,), zero_points=(0,), data=draw.integers(-127, 128, (4, 3)).astype("i1")),
        "bias": Made((4,), "int32", (0.001,), (0,), draw.integers(-900, 900, 4).astype("<i4")),
        "logits": Made((1, 4), scales=(0.1,), zero_points=(-5,)),
        "shares": Made((1, 4), scales=(1 / 256,), zero_points=(-128,)),
    }
    for name, change in changes.items():
        tensors[name] = tensors[name]._replace(**change)
    dense = Operator("FULLY_CONNECTED", 4, (0, 1, 2), (3,), (8, {0: ("<b", 0)}))
    return list(tensors.values()), [dense, Operator("SOFTMAX", 2, (3,), (4,), (9, {0: ("<f", 1.0)}))]


def int8_file(tensors: Sequence[Made], operators: Sequence[Operator], entry: int = 0, leave: int = -1) -> bytes:
    """leave: the output, by default the last tensor."""
    buffers: List[Fields] = [{}]
    tables: List[Fields] = []
    for tensor in tensors:
        fields: Fields = {
            0: Blob(np.asarray(tensor.shape, "<i4")),
            1: ("<b", TENSOR_TYPES.index(tensor.kind)),
            2: ("<I", 0),
            4: {
                2: Blob(np.asarray(tensor.scales, "<f4")),
                3: Blob(np.asarray(tensor.zero_points, "<i8"), 8),
                6: ("<i", tensor.axis),
            },
        }
        if tensor.data is not None:
            fields[2] = ("<I", len(buffers))
            buffers.append({0: Blob(np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8), 16)})
        tables.append({**fields, **tensor.more})
    codes: List[Fields] = []
    for operator in operators:
        number = OPERATOR_NAMES.index(operator.name)
        codes.append({0: ("<b", min(number, 127)), 2: ("<i", operator.version), 3: ("<i", number)})
    subgraph: Fields = {
        0: tables,
        1: Blob(np.asarray([entry], "<i4")),
        2: Blob(np.asarray([leave % len(tensors)], "<i4")),
        3: [_operator(number, operator) for number, operator in enumerate(operators)],
    }
    return write_flatbuffer({0: ("<I", 3), 1: codes, 2: [subgraph], 3: "", 4: buffers}, b"TFL3")


def _operator(number: int, operator: Operator) -> Fields:
    fields: Fields = {
        0: ("<I", number),
        1: Blob(np.asarray(operator.inputs, "<i4")),
        2: Blob(np.asarray(operator.outputs, "<i4")),
    }
    kind, options = operator.options
    return {**fields, 3: ("<B", kind), 4: options} if kind else fields
