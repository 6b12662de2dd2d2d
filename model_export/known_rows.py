"""Which rows make fair known answers: those whose bits do not hang on how TFLM rounds one product.

For a FULLY_CONNECTED with one scale, the tflite-micro wheel multiplies input and weight scale in double, esp-tflite-micro
1.4.0 in float. The multipliers differ in their last bits, so an accumulator close to a rounding boundary gives another
output on a correct board. A RELU of its own that changes the scale, and a LEAKY_RELU, divide likewise: in double in the
wheel, in float in earlier versions of TFLM. Every such operator is computed both ways here, from the inputs TFLM itself gave it.
"""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from model_export.plan_math import quantize_multiplier
from model_export.plan_tables import leaky_relu_table
from model_export.tflite_file import Op, TfliteModel, read_tflite
from model_export.tflm import TflmModel


def fair_rows(model: TflmModel, tflite: bytes, rows: np.ndarray) -> np.ndarray:
    """bool (rows,): True where every layer gives the same bits both ways. `rows` is int8 (rows, *input shape)."""
    parsed = read_tflite(tflite)
    layers = [op for op in parsed.ops if op.code == "FULLY_CONNECTED" and _has_one_scale(parsed, op)]
    relus = [op for op in parsed.ops if op.code == "RELU"]
    leaky = [op for op in parsed.ops if op.code == "LEAKY_RELU"]
    fair = np.ones(len(rows), bool)
    if not [*layers, *relus, *leaky] or not len(rows):
        return fair
    inputs = model.run_tensors(rows, sorted({op.inputs[0] for op in [*layers, *relus, *leaky]}))
    for op in layers:
        accumulators, scales = _accumulators(parsed, op, inputs[op.inputs[0]])
        fair &= (
            rescale(accumulators, *product_in_double(*scales)) == rescale(accumulators, *product_in_float(*scales))
        ).all(1)
    for op in relus:
        source, output = parsed.tensors[op.inputs[0]], parsed.tensors[op.outputs[0]]
        centred = inputs[source.index].astype(np.int64) - int(source.zero_points[0])
        one = np.float32(1)
        in_double, in_float = (
            rescale(centred, *way(source.scales[0], one, output.scales[0]))
            for way in (product_in_double, quotient_in_float)
        )
        fair &= (in_double == in_float).reshape(len(rows), -1).all(1)
    for op in leaky:
        source, output = parsed.tensors[op.inputs[0]], parsed.tensors[op.outputs[0]]
        edges = source.scales[0], int(source.zero_points[0]), output.scales[0], int(output.zero_points[0])
        ways = [leaky_relu_table(float(op.options["alpha"]), *edges, in_double=way) for way in (True, False)]
        same = ways[0] == ways[1]
        fair &= same[inputs[source.index].astype(np.int64) + 128].reshape(len(rows), -1).all(1)
    return fair


def product_in_double(in_scale: np.float32, weight_scale: np.float32, out_scale: np.float32) -> Tuple[int, int]:
    return quantize_multiplier(float(in_scale) * float(weight_scale) / float(out_scale))


def product_in_float(in_scale: np.float32, weight_scale: np.float32, out_scale: np.float32) -> Tuple[int, int]:
    return quantize_multiplier(float(np.float32(in_scale) * np.float32(weight_scale)) / float(out_scale))


def quotient_in_float(in_scale: np.float32, weight_scale: np.float32, out_scale: np.float32) -> Tuple[int, int]:
    return quantize_multiplier(float(np.float32(in_scale) * np.float32(weight_scale) / np.float32(out_scale)))


def rescale(accumulators: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """int64 array: plan_math.multiply_by_quantized of every element."""
    high = ((accumulators << max(shift, 0)) * multiplier + 2**30) >> 31
    right = max(-shift, 0)
    return high if right == 0 else (high + (1 << (right - 1)) - (high < 0)) >> right


def _has_one_scale(model: TfliteModel, op: Op) -> bool:
    weights = model.tensors[op.inputs[1]]
    return len(weights.scales) == 1 and weights.data is not None


def _accumulators(model: TfliteModel, op: Op, inputs: np.ndarray) -> Tuple[np.ndarray, List[np.float32]]:
    """int64 (rows, outputs) before rescaling, and the scales of input, weights and output."""
    source, weights, output = (model.tensors[i] for i in (op.inputs[0], op.inputs[1], op.outputs[0]))
    assert weights.data is not None
    centred = inputs.reshape(-1, weights.shape[1]).astype(np.int64) - int(source.zero_points[0])
    sums = centred @ weights.data.astype(np.int64).T
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        bias = model.tensors[op.inputs[2]].data
        assert bias is not None
        sums = sums + bias.astype(np.int64)
    return sums.reshape(len(inputs), -1), [tensor.scales[0] for tensor in (source, weights, output)]
