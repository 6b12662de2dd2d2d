"""How versions of TFLM multiply and divide scales: in double or in float, which makes multipliers of other last bits."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from model_export.plan_math import quantize_multiplier


def product_in_double(in_scale: np.float32, weight_scale: np.float32, out_scale: np.float32) -> Tuple[int, int]:
    return quantize_multiplier(float(in_scale) * float(weight_scale) / float(out_scale))


def product_in_float(in_scale: np.float32, weight_scale: np.float32, out_scale: np.float32) -> Tuple[int, int]:
    with np.errstate(over="ignore"):  # infinity is refused, with the operator's name
        return quantize_multiplier(float(np.float32(in_scale) * np.float32(weight_scale)) / float(out_scale))


def quotient_in_float(in_scale: np.float32, weight_scale: np.float32, out_scale: np.float32) -> Tuple[int, int]:
    with np.errstate(over="ignore"):
        return quantize_multiplier(float(np.float32(in_scale) * np.float32(weight_scale) / np.float32(out_scale)))


def rescale(accumulators: np.ndarray, multiplier: int, shift: int) -> np.ndarray:
    """int64 array: plan_math.multiply_by_quantized of every element."""
    high = ((accumulators << max(shift, 0)) * multiplier + 2**30) >> 31
    right = max(-shift, 0)
    return high if right == 0 else (high + (1 << (right - 1)) - (high < 0)) >> right
