"""Operators of engine/direct against TFLM over the space of scales and zero points, every int8 input each: calibration on
wide or tiny data leads to any of them. What TFLM itself leaves undefined is refused by name.
"""

from typing import Callable, Iterator, List, Tuple

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
from one_op_models import Edge, one_op, plain_options, scales, softmax_options
from tflm_oracle import answers

from model_export.errors import TflmError
from model_export.known_rows import fair_rows
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.tflm import TflmModel
from orchestrator.boards.host_engine import run_direct, run_plans

EVERY = np.arange(-128, 128).astype(np.int8)[None]
ENDS = (-128, -127, -1, 0, 1, 126, 127)
UNIT = Edge(1 / 256, -128)
SIX = 6  # decades up and down: twelve in all
Case = Tuple[str, bytes, np.ndarray]


def logistic() -> Iterator[Case]:
    rng = np.random.default_rng(1)
    for scale in scales(-SIX, SIX, rng, 40):
        for zero_point in {-128, 127, int(rng.choice(ENDS)), int(rng.integers(-128, 128))}:
            yield f"scale {scale:g}, zero point {zero_point}", one_op("LOGISTIC", Edge(scale, zero_point), UNIT), EVERY


def softmax() -> Iterator[Case]:
    """One row of all inputs has its largest value in the middle of nothing; these have it anywhere."""
    rng = np.random.default_rng(2)
    rows = rng.integers(-128, 128, (48, 5)).astype(np.int8)
    rows[:6] = [
        [-128] * 5,
        [127] * 5,
        [0, 0, 0, 0, 1],
        [-128, -128, -128, -128, 127],
        [5, 4, 3, 2, 1],
        [126, 127, 0, 0, 0],
    ]
    for scale in scales(-SIX, SIX, rng, 40):
        beta = float(rng.choice([1.0, 1.0, 0.5, 3.0]))
        model = one_op("SOFTMAX", Edge(scale, int(rng.choice(ENDS))), UNIT, (1, 5), options=softmax_options(beta))
        yield f"scale {scale:g}, beta {beta:g}", model, rows


def relu() -> Iterator[Case]:
    rng = np.random.default_rng(3)
    for scale in scales(-SIX, SIX, rng, 40):
        result = Edge(float(rng.choice([1.0, 0.1, scale])), int(rng.choice(ENDS)))
        model = one_op("RELU", Edge(scale, int(rng.choice(ENDS))), result)
        yield f"scale {scale:g} to {result}", model, EVERY


def relu6() -> Iterator[Case]:
    rng = np.random.default_rng(4)
    for scale in scales(-SIX, SIX, rng, 40):
        edge = Edge(scale, int(rng.choice(ENDS)))
        yield f"{edge}", one_op("RELU6", edge, edge), EVERY


def add() -> Iterator[Case]:
    """A constant of every value added, its scale up to six decades away; the output wide enough for the larger one."""
    rng = np.random.default_rng(5)
    for scale in scales(-SIX, SIX, rng, 40):
        other = (rng.permutation(256) - 128).astype(np.int8)[None]
        result = Edge(max(scale, 1.0) * float(rng.uniform(0.3, 3.0)), int(rng.choice(ENDS)))
        model = one_op(
            "ADD",
            Edge(scale, int(rng.choice(ENDS))),
            result,
            constants=[(other, 1.0, int(rng.choice(ENDS)))],
            options=plain_options("AddOptions"),
        )
        yield f"scale {scale:g} and 1 to {result}", model, EVERY


def fully_connected() -> Iterator[Case]:
    rng = np.random.default_rng(6)
    rows = rng.integers(-128, 128, (32, 4)).astype(np.int8)
    rows[0], rows[1] = -128, 127
    for scale in scales(-SIX, SIX, rng, 40):
        weights = rng.integers(-127, 128, (6, 4)).astype(np.int8)
        bias = rng.integers(-2000, 2000, 6).astype(np.int32)
        result = Edge(max(scale, 1e-3) * float(rng.uniform(0.5, 200.0)), int(rng.choice(ENDS)))
        model = one_op(
            "FULLY_CONNECTED",
            Edge(scale, int(rng.choice(ENDS))),
            result,
            (1, 4),
            (1, 6),
            [(weights, 0.02, 0), (bias, scale * 0.02, 0)],
            plain_options("FullyConnectedOptions"),
        )
        yield f"scale {scale:g} to {result}", model, rows


SWEEPS = (logistic, softmax, relu, relu6, add, fully_connected)


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.__name__)
def test_every_input_at_every_scale(sweep: Callable[[], Iterator[Case]]) -> None:
    cases = list(sweep())
    known = answers([(model, rows) for _, model, rows in cases])
    outputs, at = run_plans([(model, compile_plan(model).blob, rows) for _, model, rows in cases]), 0
    wrong: List[str] = []
    seen = np.zeros(256, bool)
    for (what, _, _), answer in zip(cases, known):
        assert answer.outputs is not None, f"{what}: TFLM refuses"
        want = answer.outputs
        differs = outputs[at : at + want.size].reshape(want.shape) != want
        at += want.size
        seen[want.astype(int) + 128] = True
        if differs.any():
            wrong.append(f"{what}: {int(differs.sum())} values differ")
    assert not wrong, f"{len(wrong)} of {len(cases)} models: {'; '.join(wrong[:5])}"
    assert len(cases) >= 100
    assert seen[[0, 255]].all(), "no output was at its ends"
    assert seen.sum() > 60, "the outputs hardly vary: this would prove little"


def test_a_zero_point_in_a_wide_sigmoid_is_the_lowest_value(tflm: Callable[[bytes, np.ndarray], np.ndarray]) -> None:
    """From an input scale of 8 the range TFLM computes in is empty, and its first comparison decides."""
    for scale in (7.9999995, 8.0, 12.5, 1e6):
        model = one_op("LOGISTIC", Edge(scale, 3), UNIT)
        assert run_direct(model, EVERY)[0, 131] == tflm(model, EVERY)[0, 131] == (-128 if scale >= 8 else 0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (one_op("LOGISTIC", Edge(2.0**-29, 0), UNIT), "input scale 1.86265e-09; supported is"),
        (one_op("LOGISTIC", Edge(2.0**36, 0), UNIT), "input scale 6.87195e.10; supported is"),
        (one_op("SOFTMAX", Edge(2.0**-26, 0), UNIT, (1, 5), options=softmax_options()), "supported is above 1.49"),
        (one_op("RELU", Edge(2e7, 0), Edge(1.0, 0)), "output scale 1 is too small for the input scale 2e.07"),
        (one_op("RELU6", Edge(1e-12, 0), Edge(1e-12, 0)), "scale 1e-12 is too small for relu6"),
    ],
)
def test_what_tflm_leaves_undefined_is_refused(model: bytes, reason: str) -> None:
    with pytest.raises(PlanError, match=rf"operator 0 \(\w+\): .*{reason}"):
        compile_plan(model)


def test_an_input_on_which_versions_of_tflm_divide_differently_is_no_fair_row() -> None:
    """Earlier ones divide the scales of a RELU in float: 2^-8 / 0.1 in it takes two of the inputs over a rounding boundary."""
    blob = one_op("RELU", Edge(2.0**-8, -128), Edge(0.1, -1), (1, 1))
    fair = fair_rows(TflmModel(blob), blob, EVERY.reshape(-1, 1))
    assert np.flatnonzero(~fair).tolist() == [12, 140]


def test_tflm_itself_ends_at_the_softmax_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = one_op("SOFTMAX", Edge(2.0**-26, 0), UNIT, (1, 5), options=softmax_options())
    with pytest.raises(TflmError, match="SOFTMAX .operator 0. is given the same values"):
        TflmModel(blob)
    monkeypatch.setattr("model_export.tflm._check_stops", lambda model: None)
    with pytest.raises(TflmError, match="killed by signal 6"):
        TflmModel(blob)
