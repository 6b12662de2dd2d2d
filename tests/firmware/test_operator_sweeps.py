"""Every operator of engine/direct on models drawn over its options, shapes and quantization, against the wheel: the same
bits, or refused by name, and nothing that TFLM refuses. EDGEWARD_SWEEP_MODELS sets how many of each, EDGEWARD_SWEEP_SEED which.
"""

import os
import random
from typing import Dict, List, Optional, Sequence, Set, Tuple

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="its schema writes the models")
pytest.importorskip("tflite_micro", reason="the tflite-micro wheel is the oracle")
from one_op_models import Edge, one_op, options_of
from operator_cases import CASES
from operator_draws import Case, Draw
from tflm_oracle import Answer, answers

from model_export.operators import aliases, operators, supported
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.tflite_file import read_tflite
from orchestrator.boards.host_engine import run_plans

COUNT = int(os.environ.get("EDGEWARD_SWEEP_MODELS", "24"))
SEED = int(os.environ.get("EDGEWARD_SWEEP_SEED", str(random.randrange(10**6))))


def test_every_operator_is_swept() -> None:
    """But those of variables, of which one alone is no model: test_state.py has them."""
    assert set(CASES) == {name for name in supported() if operators()[name].role is None}


@pytest.mark.parametrize("op", sorted(CASES))
def test_an_operator_says_which_kinds_of_record_it_becomes(op: str) -> None:
    planned = [blob for _, blob, _ in drawn(op)[0] if _planned(blob)[0] is not None]
    assert planned
    for blob in planned:
        used = {entry.code for entry in read_tflite(blob).ops} - aliases()
        said = {kind.name for name in used for kind in operators()[name].kinds}
        assert set(compile_plan(blob).ops) - {"load", "fill"} <= said


def drawn(op: str, odd: bool = False) -> Tuple[List[Case], List[bool]]:
    """The models, and which of them have a scale far away from the others."""
    draws = [Draw(np.random.default_rng([SEED, number]), odd) for number in range(COUNT)]
    return [CASES[op](draw) for draw in draws], [draw.far for draw in draws]


class Tally:
    """What the two engines made of an operator's cases."""

    def __init__(self, cases: Sequence[Case], far: Sequence[bool], known: Sequence[Answer]) -> None:
        self.wrong: List[str] = []
        self.refused: List[str] = []
        """By engine/direct, where TFLM runs them."""
        self.near: List[str] = []
        """Those of them with no scale far away from the others."""
        self.usual = len(far) - sum(far)
        """How many cases have no such scale: of those that have one, some are beyond what engine/direct can write."""
        self.usual_ran = 0
        self.ends: Set[int] = set()
        pairs = []
        for (what, blob, rows), away, answer in zip(cases, far, known):
            plan, refusal = _planned(blob)
            if plan is None:
                self.refused += [refusal] * (answer.outputs is not None)
                self.near += [refusal] * (answer.outputs is not None and not away)
            elif answer.outputs is None:
                self.wrong.append(f"{what}: TFLM {'ends' if answer.ended else 'refuses'}, engine/direct runs it")
            else:
                pairs.append((what, (blob, plan, rows), answer.outputs))
                self.usual_ran += not away
        outputs, at = run_plans([model for _, model, _ in pairs]), 0
        for what, _, want in pairs:
            found = outputs[at : at + want.size].reshape(want.shape)
            at += want.size
            self.ends |= {int(want.min()), int(want.max())}
            if (found != want).any():
                self.wrong.append(f"{what}: {int((found != want).sum())} of {want.size} values differ")


@pytest.fixture(scope="module")
def tallies() -> Dict[Tuple[str, bool], Tally]:
    """By operator, and whether the quantization is odd: TFLM answers all of them in one process."""
    cases = {(op, odd): drawn(op, odd) for op in CASES for odd in (False, True)}
    known = answers([(blob, rows) for of_one, _ in cases.values() for _, blob, rows in of_one])
    starts = range(0, len(known), COUNT)
    return {key: Tally(*of_one, known[at : at + COUNT]) for (key, of_one), at in zip(cases.items(), starts)}


Tallies = Dict[Tuple[str, bool], Tally]


def _planned(blob: bytes) -> Tuple[Optional[bytes], str]:
    try:
        return compile_plan(blob).blob, ""
    except PlanError as error:
        return None, str(error)


@pytest.mark.parametrize("op", sorted(CASES))
def test_the_bits_of_tflm(op: str, tallies: Tallies) -> None:
    tally = tallies[op, False]
    assert not tally.wrong, f"seed {SEED}: {len(tally.wrong)} of {COUNT} models: {'; '.join(tally.wrong[:5])}"
    assert len(tally.near) <= 0.1 * COUNT, f"TFLM runs, engine/direct refuses: {'; '.join(tally.near[:5])}"
    assert all(op in refusal for refusal in tally.refused), "a refusal names its operator"
    assert tally.usual_ran >= 0.8 * tally.usual
    assert tally.usual >= 0.2 * COUNT, "hardly any case is of the usual kind"
    ends = {"RELU": {127}, "RELU6": set()}.get(op, {-128, 127})  # those two end at their zero point, which is drawn
    assert ends <= tally.ends | tallies[op, True].ends, "no output was at its ends"


@pytest.mark.parametrize("op", sorted(CASES))
def test_odd_quantization_is_refused_where_tflm_refuses(op: str, tallies: Tallies) -> None:
    """One scale, zero point or axis of one tensor is wrong: what runs still gives the bits of TFLM."""
    tally = tallies[op, True]
    assert not tally.wrong, f"seed {SEED}: {len(tally.wrong)} of {COUNT} models: {'; '.join(tally.wrong[:5])}"


def test_a_pool_that_would_have_to_rescale_is_refused() -> None:
    fields = options_of("Pool2DOptions", padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    for op in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        for result in (Edge(0.2, 0), Edge(0.1, 1)):
            blob = one_op(op, Edge(0.1, 0), result, (1, 4, 4, 1), (1, 2, 2, 1), options=fields)
            with pytest.raises(PlanError, match=rf"operator 0 \({op}\): .*another scale than the output"):
                compile_plan(blob)
            assert answers([(blob, np.zeros((1, 16), np.int8))])[0].outputs is None, "TFLM refuses it, too"


def test_the_scale_of_a_bias_has_to_be_that_of_the_products() -> None:
    def dense(bias_scale: float) -> bytes:
        constants: List[Tuple[np.ndarray, float, int]] = [
            (np.ones((2, 3), np.int8), 0.02, 0),
            (np.array([5, 6], np.int32), bias_scale, 0),
        ]
        fields = options_of("FullyConnectedOptions")
        return one_op("FULLY_CONNECTED", Edge(0.1, 0), Edge(0.5, 0), (1, 3), (1, 2), constants, fields)

    with pytest.raises(PlanError, match="bias .* has scale 0.1, input and weights together 0.002; they must be equal"):
        compile_plan(dense(0.1))
    rows = np.zeros((1, 3), np.int8)
    assert answers([(dense(0.1), rows), (dense(0.002), rows)])[0].outputs is None
    assert compile_plan(dense(0.002)).blob


def test_a_constant_may_be_any_input_of_a_concatenation() -> None:
    """It was put into the arena between two copies, and the plan refused for writing the output twice."""
    constant = np.arange(6, dtype=np.int8).reshape(1, 6)
    edge = Edge(0.1, 0)
    fields = options_of("ConcatenationOptions", axis=1)
    blob = one_op("CONCATENATION", edge, edge, (1, 3), (1, 9), [(constant, 0.1, 0)], fields)
    assert compile_plan(blob).ops == ("load", "copy", "copy")


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_scale_that_is_no_positive_number_is_refused(scale: float) -> None:
    for edges in ((Edge(scale, 0), Edge(0.1, 0)), (Edge(0.1, 0), Edge(scale, 0))):
        with pytest.raises(PlanError, match="has scale"):
            compile_plan(one_op("RELU", *edges))


def test_a_zero_point_beyond_int8_is_refused() -> None:
    with pytest.raises(PlanError, match="zero point 128"):
        compile_plan(one_op("RELU", Edge(0.1, 128), Edge(0.1, 0)))
