"""Convolutions of every size that engine/direct computes in another way: by tiles, by single pixels, by taps or from a copy."""

from typing import List, NamedTuple, Tuple

import numpy as np
import pytest
from one_op_models import Part, model_of, options_of
from tflm_oracle import answers

from model_export.plan import compile_plan
from orchestrator.boards.host_engine import SANITIZE, run_plans

SAME, VALID = 0, 1


class Size(NamedTuple):
    height: int
    width: int
    depth: int
    kernel: Tuple[int, int]
    channels: int
    stride: int = 1
    dilation: Tuple[int, int] = (1, 1)
    padding: int = SAME


CONV = [
    *(
        Size(5, 5, 7, (3, 3), channels) for channels in (1, 3, 4, 5, 8, 9, 11, 12, 13)
    ),  # all remainders of four and eight
    *(Size(1, width, 33, (1, 1), 8) for width in (1, 2, 3, 4, 5)),  # of three pixels
    *(
        Size(2, 3, depth, (1, 1), 6) for depth in (1, 2, 7, 31, 32, 35, 63, 597, 598)
    ),  # of taps; the most of a tile, and one more
    Size(4, 4, 70, (3, 3), 9),  # too large for tiles, and padded
    Size(6, 9, 4, (2, 2), 5, 1, (2, 3), VALID),
    Size(3, 4, 4, (2, 2), 5, 1, (1, 3), VALID),  # columns so far apart that the next row begins before them
    Size(9, 7, 3, (10, 4), 16, 2),
]
DEPTHWISE = [
    *(Size(5, 5, depth, (3, 3), depth) for depth in (1, 2, 3, 4, 5, 8, 11)),
    *(Size(1, width, 8, (1, 3), 8) for width in (1, 2, 3, 4, 5, 7)),
    Size(3, 4, 4, (2, 2), 4, 1, (1, 3), VALID),
    Size(6, 6, 6, (3, 3), 6, 1, (2, 2)),
    *(Size(4, 4, depth, (3, 3), depth, 2) for depth in (256, 257, 300)),  # the most of a tile, and more
    *(Size(9, 9, 6, kernel, 6) for kernel in ((5, 5), (7, 7), (9, 8), (9, 9))),  # more cells than a tile, than taps
    *(Size(4, 4, 3, (3, 3), 3 * multiplier) for multiplier in (2, 3)),
    Size(4, 5, 8, (1, 1), 8),
]


def model_with(size: Size, depthwise: bool, rng: np.random.Generator) -> bytes:
    """One scale a channel, for outputs that use most of their range, or one for all."""
    out = [
        -(-n // size.stride) if size.padding == SAME else (n - (k - 1) * d - 1) // size.stride + 1
        for n, k, d in zip((size.height, size.width), size.kernel, size.dilation)
    ]
    shape = (1, *size.kernel, size.channels) if depthwise else (size.channels, *size.kernel, size.depth)
    weights = rng.integers(-127, 128, shape).astype(np.int8)
    spread = 127 * 73 * np.sqrt(np.prod(size.kernel) * (1 if depthwise else size.depth))
    scales = (64 / spread * np.exp(rng.uniform(-1, 1, size.channels))).astype(np.float32)
    source = Part((1, size.height, size.width, size.depth), 0.05, int(rng.integers(-128, 128)))
    bias = rng.integers(-3000, 3000, size.channels).astype(np.int32)
    parts = [
        *(source, Part((1, *out, size.channels), 0.05, int(rng.integers(-128, 128)))),
        Part(shape, scales, 0, weights, axis=3 if depthwise else 0),
        Part((size.channels,), (np.float32(0.05) * scales).astype(np.float32), 0, bias),
    ]
    settings = {
        **{"padding": size.padding, "strideH": size.stride, "strideW": size.stride},
        **{"dilationHFactor": size.dilation[0], "dilationWFactor": size.dilation[1]},
    }
    if depthwise:
        options = options_of("DepthwiseConv2DOptions", depthMultiplier=size.channels // size.depth, **settings)
        return model_of(parts, [("DEPTHWISE_CONV_2D", [0, 2, 3], [1], options)])
    return model_of(parts, [("CONV_2D", [0, 2, 3], [1], options_of("Conv2DOptions", **settings))])


@pytest.mark.parametrize("depthwise", [False, True], ids=["conv", "depthwise"])
def test_every_way_gives_the_wheels_values(depthwise: bool) -> None:
    rng = np.random.default_rng(12)
    cases: List[Tuple[bytes, bytes, np.ndarray]] = []
    for size in DEPTHWISE if depthwise else CONV:
        model = model_with(size, depthwise, rng)
        plan = compile_plan(model)
        cases.append((model, plan.blob, rng.integers(-128, 128, (3, plan.input_bytes)).astype(np.int8)))
    expected = answers([(model, rows) for model, _, rows in cases])
    for (model, blob, rows), want, size in zip(cases, expected, DEPTHWISE if depthwise else CONV):
        assert want.outputs is not None, size
        assert (run_plans([(model, blob, rows)], SANITIZE).reshape(3, -1) == want.outputs).all(), size
