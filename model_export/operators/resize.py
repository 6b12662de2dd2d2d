"""Images in another size: from which rows and columns of the input each pixel of the output comes."""

from __future__ import annotations

import math
from typing import Callable, List, Tuple

import numpy as np

from model_export.operator_entry import Operator
from model_export.plan_context import Context
from model_export.plan_steps import Kind, Step
from model_export.tflite_options import Options, flag, int0
from model_export.tflm_structs import Kernel

RESIZE = Kind("resize", 16)
"""Table: for each row of the output, then each column: int32 the two of the input it lies between, and how far in 1024ths."""

_UNIT = 1 << 10  # of the way from one row to the next
Between = Tuple[int, int, int]
"""Two places in the input, and how far from the first to the second, in 1024ths."""


def resize_nearest_neighbor(c: Context) -> Step:
    align, half = bool(c.op.options["align_corners"]), bool(c.op.options["half_pixel_centers"])

    def places(size: int, out: int) -> List[Between]:
        """In float32, as TFLM has it."""
        scale = np.float32(size - 1) / np.float32(out - 1) if align and out > 1 else np.float32(size) / np.float32(out)
        scaled = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
        nearest = [math.floor(float(x) + 0.5) if align else math.floor(float(x)) for x in scaled]
        return [(min(place, size - 1), min(place, size - 1), 0) for place in nearest]

    return _resize(c, places)


def resize_bilinear(c: Context) -> Step:
    align, half = bool(c.op.options["align_corners"]), bool(c.op.options["half_pixel_centers"])
    if align and half:
        raise c.error("align_corners and half_pixel_centers together")

    def places(size: int, out: int) -> List[Between]:
        corners = align and out > 1
        steps, spans = (out - 1, size - 1) if corners else (out, size)
        step = (_UNIT * spans + steps // 2) // steps
        return [_between(c, step * at + (step // 2 - _UNIT // 2 if half else 0), size) for at in range(out)]

    return _resize(c, places)


def _between(c: Context, at: int, size: int) -> Between:
    low, high = max(at, 0) // _UNIT, min(max(-(-at // _UNIT), 0), size - 1)
    if low >= size:
        raise c.error(f"enlarged so much that steps of 1/{_UNIT} leave the {size} rows or columns of the input")
    return (low, low, 0) if low == high else (low, high, at - _UNIT * low)


def _resize(c: Context, places: Callable[[int, int], List[Between]]) -> Step:
    source = c.input()
    if len(source.shape) != 4:
        raise c.error(f"an input of shape {source.shape}; supported are 4 dimensions")
    in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
    if tuple(c.numbers(1)) != out_hwc[:2] or in_hwc[2] != out_hwc[2]:
        raise c.error(f"{source.shape} to size {c.numbers(1)} does not give {c.output.shape}")
    c.same_scale(source)
    table = np.array(places(in_hwc[0], out_hwc[0]) + places(in_hwc[1], out_hwc[1]), "<i4")
    return Step(RESIZE, c.op, (source.index,), c.output.index, in_hwc, out_hwc, table=table.tobytes())


_WAYS = (("align_corners", flag), ("half_pixel_centers", flag))
OPERATORS = (
    Operator(
        "RESIZE_BILINEAR",
        options=Options(15, (("", int0), ("", int0), *_WAYS)),
        kernel=Kernel((2, 1), ""),
        kinds=(RESIZE,),
        plan=resize_bilinear,
    ),
    Operator(
        "RESIZE_NEAREST_NEIGHBOR",
        options=Options(74, _WAYS),
        kernel=Kernel((2, 1), ""),
        kinds=(RESIZE,),
        plan=resize_nearest_neighbor,
    ),
)
