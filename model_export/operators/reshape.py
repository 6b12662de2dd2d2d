"""The same values in another shape, and a shape as values: engine/direct has nothing to do."""

from __future__ import annotations

from typing import Optional

import numpy as np

from model_export.operator_entry import Operator
from model_export.tflite_model import Op, Subgraph
from model_export.tflite_options import Options, ints
from model_export.tflm_structs import Kernel


def _more_sizes(graph: Subgraph, op: Op) -> Optional[str]:
    if not op.outputs or not op.inputs:
        return None  # refused by TFLM itself
    if op.inputs[0] < 0:
        return "lacks its input, which TFLM reads all the same"
    source, output = (graph.tensors[index].shape for index in (op.inputs[0], op.outputs[0]))
    if int(np.prod(output, dtype=np.int64)) == len(source):
        return None
    return f"writes {len(source)} sizes into an output of {output}, which TFLM does not check"


OPERATORS = (
    Operator("EXPAND_DIMS", kernel=Kernel((0, 1), ""), same_bytes=True),
    Operator("RESHAPE", options=Options(17, (("new_shape", ints),)), kernel=Kernel((36, 4), ""), same_bytes=True),
    Operator("SHAPE", kernel=Kernel((0, 1), ""), tflm_stops=_more_sizes),
    Operator("SQUEEZE", options=Options(30, (("squeeze_dims", ints),)), same_bytes=True),
)
