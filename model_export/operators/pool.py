"""The largest value of a window, or the mean."""

from __future__ import annotations

from typing import Callable

from model_export.operator_entry import Operator
from model_export.plan_arena import window_lag
from model_export.plan_context import Context, zero_point
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Tensor
from model_export.tflite_options import ACTIVATION, PADDING, STRIDES, Options, int0
from model_export.tflm_structs import Kernel

MAX_POOL = Kind("max_pool", 3)
AVERAGE_POOL = Kind("average_pool", 4)
"""Neither has a table."""


def _check_pool_scale(c: Context, source: Tensor) -> None:
    """As strict as TFLM, which lets scales differ by what float32 may lose; and never by what would be seen."""
    scale = float(source.scales[0])
    if abs(scale - float(c.output.scales[0])) > min(1e-6, 1e-3 * scale) or zero_point(source) != zero_point(c.output):
        c.same_scale(source)


def pool(kind: Kind) -> Callable[[Context], Step]:
    def lower_pool(c: Context) -> Step:
        source = c.input()
        in_hwc, out_hwc = c.hwc(source), c.hwc(c.output)
        kernel = c.op.options["filter_h"], c.op.options["filter_w"]
        strides, pads = c.window(in_hwc, out_hwc, kernel, (1, 1))
        if in_hwc[2] != out_hwc[2]:
            raise c.error(f"{in_hwc[2]} channels in, {out_hwc[2]} out")
        _check_pool_scale(c, source)
        return Step(
            kind, c.op, (source.index,), c.output.index, in_hwc, out_hwc, kernel, strides, padding=pads,
            clamp=c.clamp(), lag=window_lag(in_hwc, out_hwc, strides, pads),
        )  # fmt: skip

    return lower_pool


_OPTIONS = Options(5, (PADDING, *STRIDES, ("filter_w", int0), ("filter_h", int0), ACTIVATION))
_KERNEL = Kernel((40, 4), "iiii" + "iiii")
OPERATORS = (
    Operator("AVERAGE_POOL_2D", _OPTIONS, _KERNEL, (AVERAGE_POOL,), pool(AVERAGE_POOL)),
    Operator("MAX_POOL_2D", _OPTIONS, _KERNEL, (MAX_POOL,), pool(MAX_POOL)),
)
