"""The shape that each operator of a training graph gives, by itself, and the operands that have none."""

from typing import Any, Dict, List

import numpy as np
import pytest
from graph_samples import Builder

from orchestrator.errors import GraphError
from orchestrator.node.graph_shapes import Known


def operator_alone(name: str, tensors: List[Known], options: Dict[str, Any], outputs: int = 1) -> List[Known]:
    build = Builder()
    inputs = [build.tensor(known.shape, known.dtype, known.data) for known in tensors]
    made = build.add(name, inputs, outputs, **options)
    return [build.tensors[i] for i in (made if isinstance(made, list) else [made])]


def floats(*shape: int) -> Known:
    return Known("float32", shape)


def ints(*values: Any) -> Known:
    data = np.array(values, "int32")
    return Known("int32", data.shape, data)


CONV = {"padding": 0, "stride_w": 2, "stride_h": 1}
SHAPES: List[Any] = [
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3)], CONV, (2, 9, 4, 5)),
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3), floats(5)], {**CONV, "padding": 1}, (2, 7, 3, 5)),
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3)], {**CONV, "padding": 1, "dilation_h": 4}, (2, 1, 3, 5)),
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3)], {**CONV, "padding": 1, "dilation_h": 5}, None),
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3)], {**CONV, "stride_w": 0}, None),
    ("CONV_2D", [floats(2, 9, 7, 4), floats(5, 3, 2, 2)], CONV, None),
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3), floats(4)], CONV, None),
    ("CONV_2D", [floats(2, 9, 7, 3), floats(5, 3, 2, 3)], {**CONV, "dilation_w": 1 << 30}, None),
    ("DEPTHWISE_CONV_2D", [floats(1, 5, 5, 3), floats(1, 3, 3, 6), floats(6)], {**CONV, "multiplier": 2}, (1, 5, 3, 6)),
    ("DEPTHWISE_CONV_2D", [floats(1, 5, 5, 3), floats(1, 3, 3, 6), floats(6)], {**CONV, "multiplier": 0}, None),
    ("MAX_POOL_2D", [floats(1, 5, 5, 3)], {**CONV, "filter_w": 2, "filter_h": 2}, (1, 5, 3, 3)),
    ("MAX_POOL_2D", [floats(1, 5, 5, 3)], {**CONV, "filter_w": 0, "filter_h": 2}, None),
    ("AVERAGE_POOL_2D", [floats(1, 5, 5, 3)], {**CONV, "padding": 1, "filter_w": 6, "filter_h": 1}, None),
    ("TRANSPOSE_CONV", [ints(1, 9, 8, 3), floats(3, 3, 2, 5), floats(1, 9, 4, 5)], CONV, (1, 9, 8, 3)),
    ("TRANSPOSE_CONV", [ints(1, 9, 9, 3), floats(3, 3, 2, 5), floats(1, 9, 4, 5)], CONV, None),
    ("TRANSPOSE_CONV", [ints(1, 9, -8, 3), floats(3, 3, 2, 5), floats(1, 9, 4, 5)], CONV, None),
    ("RESHAPE", [floats(4, 6), ints(3, -1)], {}, (3, 8)),
    ("RESHAPE", [floats(4, 6), ints(5, -1)], {}, None),
    ("RESHAPE", [floats(4, 6), ints(-1, -1)], {}, None),
    ("RESHAPE", [floats(4, 6), ints(0, 24)], {}, None),
    ("TRANSPOSE", [floats(2, 3, 4), ints(2, 0, 1)], {}, (4, 2, 3)),
    ("TRANSPOSE", [floats(2, 3, 4), ints(2, 0, 0)], {}, None),
    ("TRANSPOSE", [floats(2, 3, 4), ints(3, 0, 1)], {}, None),
    ("SLICE", [floats(4, 6), ints(1, 2), ints(2, -1)], {}, (2, 4)),
    ("SLICE", [floats(4, 6), ints(1, 2), ints(2, 5)], {}, None),
    ("SLICE", [floats(4, 6), ints(-1, 2), ints(2, 1)], {}, None),
    ("STRIDED_SLICE", [floats(4, 6), ints(0, -4), ints(0, 6), ints(1, 3)], {"end_mask": 1}, (4, 2)),
    ("STRIDED_SLICE", [floats(4, 6), ints(3, 0), ints(9, 6), ints(1, 2)], {"shrink_axis_mask": 1}, (3,)),
    ("STRIDED_SLICE", [floats(4, 6), ints(4, 0), ints(5, 6), ints(1, 2)], {"shrink_axis_mask": 1}, None),
    ("STRIDED_SLICE", [floats(4, 6), ints(0, 0), ints(4, 6), ints(1, 0)], {}, None),
    ("STRIDED_SLICE", [floats(4, 6), ints(0, 0), ints(4, 7), ints(1, 1)], {}, None),
    ("STRIDED_SLICE", [floats(4, 6), ints(0, 5), ints(4, 0), ints(1, -1)], {}, None),
    ("PAD", [floats(4, 6), ints((1, 2), (0, 3))], {}, (7, 9)),
    ("PAD", [floats(4, 6), ints((1, 2), (0, -3))], {}, None),
    ("SPLIT", [ints(1), floats(4, 6)], {"count": 3}, (4, 2)),
    ("SPLIT", [ints(1), floats(4, 7)], {"count": 3}, None),
    ("REVERSE_V2", [floats(4, 6), ints(0, 1)], {}, None),
    ("TILE", [floats(4, 6), ints(2, 1)], {}, (8, 6)),
    ("TILE", [floats(4, 6), ints(2, 0)], {}, None),
    ("SUM", [floats(4, 6, 2), ints(0, -1)], {"keep_dims": True}, (1, 6, 1)),
    ("SUM", [floats(4, 6, 2), ints(2, -1)], {}, None),
    ("MEAN", [floats(4, 6, 2), ints(3)], {}, None),
    ("ADD", [floats(4, 1, 2), floats(6, 1)], {}, (4, 6, 2)),
    ("ADD", [floats(4, 2), floats(3)], {}, None),
    ("MUL", [floats(1, 1, 1, 1, 1, 2), floats(1)], {}, None),
    ("ADD", [floats(2), Known("int32", (2,))], {}, None),
    ("BATCH_MATMUL", [floats(7, 4, 6), floats(7, 5, 6)], {"adj_y": True}, (7, 4, 5)),
    ("BATCH_MATMUL", [floats(4, 6), floats(5, 6)], {}, None),
    ("FULLY_CONNECTED", [floats(2, 3, 4), floats(5, 4)], {"keep_num_dims": True}, (2, 3, 5)),
    ("FULLY_CONNECTED", [floats(2, 3, 4), floats(5, 12)], {}, (2, 5)),
    ("FULLY_CONNECTED", [floats(2, 3, 4), floats(5, 7)], {}, None),
    ("PACK", [floats(2, 3), floats(2, 3)], {"count": 2, "axis": -1}, (2, 3, 2)),
    ("PACK", [floats(2, 3), floats(2, 3)], {"count": 3, "axis": 0}, None),
    ("CONCATENATION", [floats(2, 3), floats(4, 3)], {"axis": 0}, (6, 3)),
    ("CONCATENATION", [floats(2, 3), floats(4, 2)], {"axis": 0}, None),
    (
        "ONE_HOT",
        [Known("int32", (4,)), ints(3)._replace(shape=(), data=np.array(3)), floats(), floats()],
        {"axis": -1},
        (4, 3),
    ),
    (
        "ONE_HOT",
        [Known("int32", (4,)), ints(0)._replace(shape=(), data=np.array(0)), floats(), floats()],
        {"axis": -1},
        None,
    ),
    ("SPACE_TO_BATCH_ND", [floats(2, 5, 3), ints(2), ints((1, 2))], {}, (4, 4, 3)),
    ("SPACE_TO_BATCH_ND", [floats(2, 5, 3), ints(2), ints((1, 1))], {}, None),
    ("BATCH_TO_SPACE_ND", [floats(4, 4, 3), ints(2), ints((1, 2))], {}, (2, 5, 3)),
    ("BATCH_TO_SPACE_ND", [floats(4, 4, 3), ints(2), ints((4, 4))], {}, None),
    ("SELECT", [Known("bool", (2,)), floats(2), floats(3)], {}, None),
    ("CAST", [floats(2)], {}, None),
    ("LOG_SOFTMAX", [floats()], {}, None),
]


@pytest.mark.parametrize(("name", "inputs", "options", "shape"), SHAPES)
def test_shapes(name: str, inputs: List[Known], options: Dict[str, Any], shape: Any) -> None:
    outputs = int(options.get("count", 1)) if name == "SPLIT" else 1
    if shape is None:
        with pytest.raises(GraphError):
            operator_alone(name, inputs, options, outputs)
    else:
        assert operator_alone(name, inputs, options, outputs)[0].shape == shape
