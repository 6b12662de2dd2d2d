"""Scores of classes that sum to 1, from exponentials that are known before an input is seen."""

from __future__ import annotations

import struct
from typing import List, Optional

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context
from model_export.plan_math import exp_on_negative, high_multiply, input_radius, quantize_multiplier
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Op, Subgraph
from model_export.tflite_options import Options, number
from model_export.tflm_structs import Kernel

SOFTMAX = Kind("softmax", 7)
"""Table: int32 count, int32 exp[count]: exp(-d * scale * beta) in Q0.31."""

_MAX_DEPTH = 511  # beyond it, TFLM's own shift is out of range
LEAST_SCALE = 2.0**-26
"""Of the input: TFLM multiplies it by 2^26 and asserts that the product is above 1 (softmax_common.cc)."""


def softmax(c: Context) -> Step:
    c.unit_output()
    source = c.input()
    depth = source.shape[-1]
    if depth > _MAX_DEPTH:
        raise c.error(f"{depth} classes; supported are {_MAX_DEPTH}")
    shape = (1, int(np.prod(source.shape)) // depth, depth)
    with c.named_errors():
        exps = softmax_table(float(c.op.options["beta"]), float(source.scales[0]))
    table = struct.pack(f"<{1 + len(exps)}i", len(exps), *exps)
    return Step(SOFTMAX, c.op, (source.index,), c.output.index, shape, shape, table=table, lag=0)


def softmax_table(beta: float, input_scale: float) -> List[int]:
    """exp(-d * beta * input_scale) in Q0.31 for d = 0, 1, ... as long as it counts (TFLM treats the rest as zero).

    Raises ValueError where TFLM stops: its multiplier has to be above 1.
    """
    integer_bits = 5
    real = min(beta * input_scale * 2 ** (31 - integer_bits), 2.0**31 - 1.0)
    if not real > 1:
        raise ValueError(f"beta * input scale is {beta * input_scale:g}; supported is above {2.0**-26:g}")
    multiplier, left_shift = quantize_multiplier(real)
    radius = input_radius(integer_bits, left_shift)
    return [
        exp_on_negative(high_multiply(-d << left_shift, multiplier), integer_bits) for d in range(min(radius, 255) + 1)
    ]


def unlearned(graph: Subgraph, op: Op) -> Optional[str]:
    """Of values so close together that TFLM has no fixed-point multiplier for them."""
    scales = graph.tensors[op.inputs[0]].scales
    if len(scales) and float(scales[0]) * float(op.options.get("beta", 1.0)) <= LEAST_SCALE:
        return (
            "is given the same values whatever the input is: weights are zero, or a layer gives zeros only, so nothing was "
            "learned: train the model, or train it again"
        )
    return None


OPERATORS = (
    Operator(
        "SOFTMAX",
        options=Options(9, (("beta", number("<f", 0.0)),)),
        kernel=Kernel((4, 4), "d" + 7 * "i" + 5 * "p"),
        kinds=(SOFTMAX,),
        plan=softmax,
        scores=True,
        tflm_stops=unlearned,
    ),
)
