"""The same values in another shape, and a shape as values: engine/direct has nothing to do."""

from __future__ import annotations

from model_export.operator_entry import Operator
from model_export.tflite_options import Options, ints
from model_export.tflm_structs import Kernel

OPERATORS = (
    Operator("EXPAND_DIMS", kernel=Kernel((0, 1), ""), same_bytes=True),
    Operator("RESHAPE", options=Options(17, (("new_shape", ints),)), kernel=Kernel((36, 4), ""), same_bytes=True),
    Operator("SHAPE", kernel=Kernel((0, 1), "")),
    Operator("SQUEEZE", options=Options(30, (("squeeze_dims", ints),)), same_bytes=True),
)
