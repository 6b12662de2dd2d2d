"""A layer of filters over time, by hand: converters write one only from old layers."""

from typing import Optional

import numpy as np
from one_op_models import Part, model_of, options_of

RANK, UNITS, WIDTH, STEPS = 2, 5, 9, 7
FILTERS = RANK * UNITS


def svdf_layer(
    kind: str = "int16",
    rank: int = RANK,
    bias: bool = True,
    state: Optional[str] = None,
    slip: float = 0.0,
    output: Optional[float] = None,
) -> bytes:
    """`state`: the type of what is kept, where it is not that of the weights over time; `slip`: of the bias's scale."""
    rng = np.random.default_rng(8)
    fine = 2.0**-7 if kind == "int8" else 2.0**-15
    weights = rng.integers(-100, 100, (FILTERS, STEPS)).astype(kind)
    parts = [
        Part((1, WIDTH), 0.05, -7),
        Part((1, UNITS), output or (0.02 if kind == "int16" else 1.0), 11),
        Part((FILTERS, WIDTH), 0.004, 0, rng.integers(-128, 128, (FILTERS, WIDTH)).astype(np.int8)),
        Part((FILTERS, STEPS), 0.01, 0, weights),
        Part((UNITS,), fine * 4 * 0.01 + slip, 0, rng.integers(-3000, 3000, UNITS).astype(np.int32)),
        Part((1, FILTERS * STEPS), fine * 4, 0 if kind == "int16" else -5, kind=state or kind, variable=True),
    ]
    fields = options_of("SVDFOptions", rank=rank, fusedActivationFunction=1)
    return model_of(parts, [("SVDF", [0, 2, 3, 4 if bias else -1, 5], [1], fields)])
