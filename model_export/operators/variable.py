"""What a model keeps from one inference to the next: variables, and the subgraph that gives them their first values.

How they belong together is checked in model_export/variables.py; what a plan does with them is in model_export/plan_state.py.
"""

from __future__ import annotations

from model_export.operator_entry import Operator, Role
from model_export.tflite_options import Options, int0, text
from model_export.tflm_structs import Kernel

OPERATORS = (
    Operator("ASSIGN_VARIABLE", kernel=Kernel((0, 1), "", compressed="i"), role=Role.ASSIGN),
    Operator("CALL_ONCE", options=Options(103, (("subgraph", int0),)), kernel=Kernel((4, 4), "ib"), role=Role.ONCE),
    Operator("READ_VARIABLE", kernel=Kernel((0, 1), ""), role=Role.READ),
    Operator(
        "VAR_HANDLE",
        options=Options(111, (("container", text), ("name", text))),
        kernel=Kernel((0, 1), "i", option_pointers=2),
        role=Role.HANDLE,
    ),
)
