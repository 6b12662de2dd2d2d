"""Attack: weights, means and deviations that make one record's logits or gradient not finite. Promise: a private sum moves by no
more than its noise is matched to, whatever a record comes to; nothing is not finite, and nothing fails for one record alone."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from distinguish import tell_apart
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from inside import (
    DELTA,
    INPUTS,
    PARAMETERS,
    Inside,
    almost_noiseless,
    joined,
    make_data,
    make_schema,
    make_task,
    model,
    planned,
)

from orchestrator.data.dataset import Dataset
from orchestrator.errors import EdgewardError
from orchestrator.node.evaluation import evaluate
from orchestrator.privacy.noisy_sum import evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.standardization import moments
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature
from orchestrator.wire.task import Evaluation, Task
from orchestrator.wire.training import Training

EXTREME = [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e38, 1e-45, -1e-45, -0.0, 0.0, 1.0]
ANY_32 = st.one_of(st.sampled_from(EXTREME), st.floats(width=32))
ANY_64 = st.one_of(st.sampled_from([*EXTREME, 1.7e308, -1.7e308, 5e-324]), st.floats())

WANTED = Dataset(np.array([[0.9, 0.1, 0.2]], np.float32), np.ones(1, np.int32), np.array([999]))
"""The record the gateway is after: the only one whose first input is above a half."""

SHARE = Evaluation(share=0.5, bins=2)


@settings(max_examples=200, deadline=None)
@given(vector=arrays(np.float64, 5, elements=ANY_64), size=st.just(5))
def test_no_vector_moves_a_noisy_sum_by_more_than_its_bound(vector: np.ndarray, size: int) -> None:
    released = training_sum(almost_noiseless(make_task()), size)
    total = released.total([vector], np.random.default_rng(0))
    assert float(np.linalg.norm(total.astype(np.float64))) <= released.lattice.bound
    others = [np.zeros(size), np.full(size, 1e-3)]
    assert np.abs(released.total([*others, vector], np.random.default_rng(0))).max() <= 3 * released.lattice.bound


@settings(max_examples=200, deadline=None)
@given(x=arrays(np.float32, (3, INPUTS), elements=ANY_32), patient=st.booleans())
def test_no_record_moves_the_statistics_by_more_than_their_bound(x: np.ndarray, patient: bool) -> None:
    """Read data are finite; this holds even if a reader should let something through."""
    task = almost_noiseless(make_task(make_schema(standardization="federated")))
    units = [np.arange(3)] if patient else [np.array([0])]
    released = statistics_sum(task)
    with np.errstate(all="ignore"):
        total = released.total(moments(x[: len(units[0])], task.schema, units), np.random.default_rng(0))
    assert float(np.linalg.norm(total.astype(np.float64))) <= released.lattice.bound


class Says:
    """A graph whose logits are what an attacker made of them."""

    def __init__(self, logits: np.ndarray) -> None:
        self._logits = logits

    def logits(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._logits[: len(x)]

    record_logits = logits


@settings(max_examples=200, deadline=None)
@given(
    logits=arrays(np.float32, (6, 2), elements=ANY_32),
    y=arrays(np.int32, 6, elements=st.integers(0, 1)),
    unit=st.sampled_from(["record", "patient"]),
)
def test_no_unit_moves_evaluation_sums_by_more_than_the_square_root_of_two(
    logits: np.ndarray, y: np.ndarray, unit: str
) -> None:
    """The last unit, a record or a patient of three, in or out, with noise of a thousandth of what it may change."""
    task = almost_noiseless(make_task(evaluation=SHARE, privacy=Privacy(unit=unit, delta=DELTA)))
    patients = np.array([1, 2, 3, 7, 7, 7]) if unit == "patient" else np.arange(6)
    held, without = Dataset(np.zeros((6, INPUTS), np.float32), y, patients), 3 if unit == "patient" else 5
    with np.errstate(all="ignore"):
        full, less = (
            evaluate(task, Says(logits), held.take(np.arange(n)), np.zeros(PARAMETERS))  # type: ignore[arg-type]
            for n in (6, without)
        )
    moved = (full - less) / evaluation_counts(task).scale
    # What one noise of 1e-3 * sqrt(2) on each of the sums can add, in the worst of many trials.
    assert float(np.linalg.norm(moved)) <= np.sqrt(2) + 0.1


def tensors() -> Iterator[Tuple[str, Dict[str, np.ndarray]]]:
    """Models that blow up for the wanted record only, and ones that do for all."""
    for value in EXTREME:
        for name, size in (("weights", PARAMETERS), ("mean", INPUTS), ("std", INPUTS)):
            for where in (0, size - 1):
                changed = model()[name].copy()
                changed[where] = value
                yield f"{name}[{where}]={value}", model(**{name: changed})
    steep = np.zeros(PARAMETERS, np.float32)
    steep[:2] = 3.4e38, -3.4e38
    yield "overflows above 0.7", model(weights=steep, std=np.array([0.7, 1, 1], np.float32))
    yield "all at the edge", model(weights=np.full(PARAMETERS, 3.4e38, np.float32))
    yield "tiny std", model(std=np.full(INPUTS, 1e-45, np.float32))


MODELS = dict(tensors())


class Outcome:
    """What a node's answer comes to: the sums, or that it refuses, which must not depend on one record."""

    def __init__(self, node: Inside, number: int, sent: Dict[str, np.ndarray]) -> None:
        self.error: Optional[str] = None
        self.sums: Dict[str, np.ndarray] = {}
        try:
            with np.errstate(all="ignore"):
                self.sums = node.answer(number, sent)[1]
        except EdgewardError as error:
            self.error = f"{type(error).__name__} {error}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_one_record_changes_no_answer_by_more_than_its_bound(tmp_path: Path, linear_graph: bytes, unit: str) -> None:
    """All models above, the node's own path from message to sums; neither side fails where the other answers."""
    training = Training("fedsgd", rounds=1, learning_rate=1.0, parameters=PARAMETERS)
    privacy = Privacy(unit=unit, epsilon=1.0, delta=DELTA, sampling_rate=1.0)
    task = almost_noiseless(make_task(training=training, privacy=privacy, evaluation=SHARE))
    data, bound = make_data(5), np.sqrt(2) + 0.1
    nodes = [
        Inside(tmp_path, task, linear_graph, data, held, run=f"run{i}")
        for i, held in enumerate((data, joined(data, WANTED)))
    ]
    for name, sent in MODELS.items():
        without, with_it = (Outcome(node, 2, sent) for node in nodes)
        assert without.error == with_it.error, name
        for sums in (without.sums, with_it.sums):
            assert all(np.isfinite(values).all() for values in sums.values() if values.dtype.kind == "f"), name
        if without.error is None:
            moved = with_it.sums["evaluation"].astype(np.float64) - without.sums["evaluation"]
            assert float(np.linalg.norm(moved)) <= bound, (name, moved)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_model_makes_an_update_that_is_not_finite_or_too_long(tmp_path: Path, linear_graph: bytes) -> None:
    """A step's mean over units, each clipped to 1, is at most 1 long but for its noise and the noise of the divisor."""
    privacy = Privacy(unit="record", epsilon=1.0, delta=DELTA, sampling_rate=1.0)
    task = almost_noiseless(make_task(privacy=privacy))
    data = joined(make_data(12), WANTED)
    for i, (name, sent) in enumerate(list(MODELS.items())[::3]):
        node = Inside(tmp_path, task, linear_graph, data, run=f"run{i}")
        outcome = Outcome(node, 1, sent)
        node.close()
        for values in outcome.sums.values():
            assert np.isfinite(values).all(), name
            assert float(np.linalg.norm(values.astype(np.float64))) <= 1.3, name


@pytest.fixture(scope="module")
def evaluated() -> Task:
    """Planned by the accountant, once."""
    return planned(make_task(evaluation=SHARE, privacy=Privacy(unit="record", epsilon=0.5, delta=DELTA)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["overflows above 0.7", "weights[0]=nan", "weights[0]=inf"])
def test_evaluation_sums_tell_a_record_no_better_than_claimed(
    tmp_path: Path, linear_graph: bytes, evaluated: Task, name: str
) -> None:
    """With all of its noise, many draws of what the node would send: the bound of a distinguisher stays below the claim."""
    data = make_data(4)
    draws: List[np.ndarray] = []
    for i, held in enumerate((data, joined(data, WANTED))):
        node = Inside(tmp_path, evaluated, linear_graph, data, held, run=f"run{i}")
        outcomes = [Outcome(node, 2, MODELS[name]) for _ in range(300)]
        assert len({outcome.error for outcome in outcomes}) == 1
        draws.append(np.array([outcome.sums.get("evaluation", np.zeros(1)) for outcome in outcomes]))
    assert tell_apart(draws[0], draws[1], DELTA) <= evaluated.privacy.epsilon


RANGES = [(-1.7e308, 1.7e308), (0.0, 5e-324), (-np.inf, np.inf), (0.0, np.inf), (-1e39, 1e39), (1e308, 1.7e308)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("low_high", RANGES, ids=str)
def test_a_public_range_without_sense_changes_no_bound(
    tmp_path: Path, linear_graph: bytes, low_high: Tuple[float, float]
) -> None:
    """Ranges are the gateway's words too. A task that makes none is refused, or its statistics keep their bound."""
    try:
        features = tuple(Feature(f"x{i}", *low_high) for i in range(INPUTS))
        task = almost_noiseless(make_task(make_schema(standardization="federated", features=features)))
    except (ValueError, EdgewardError):
        return
    data = make_data(12)
    sums: List[Any] = []
    for i, train in enumerate((data, joined(data, WANTED))):
        outcome = Outcome(Inside(tmp_path, task, linear_graph, train, run=f"run{i}"), 0, {})
        assert outcome.error is None
        sums.append(outcome.sums)
    (name,) = sums[0]
    assert all(np.isfinite(some[name]).all() for some in sums)
    longest = task.privacy.statistics_clip_norm * 1.1
    assert float(np.linalg.norm(sums[1][name].astype(np.float64) - sums[0][name])) <= longest
