"""Attack: how long a node takes says whom it computed on. Promise: an answer that rests on a secret sample leaves at a multiple
of a time made of public numbers, long enough for any sample; no one record or patient puts it off to the next."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, Tuple
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inside import CLASSES, INPUTS, PARAMETERS, Inside, joined, make_data, make_task, model, planned

from orchestrator.data.dataset import Dataset
from orchestrator.node import evaluation, pace, trainer
from orchestrator.node.pace import Pace
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy import noisy_sum
from orchestrator.privacy.lattice import Lattice
from orchestrator.privacy.noisy_sum import NoisyCounts, NoisySum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire import evaluation as sums
from orchestrator.wire.protection import MOST_COUNT_NOISE, Privacy
from orchestrator.wire.task import Evaluation
from orchestrator.wire.training import Training


@given(quantum=st.floats(1e-3, 1e3), took=st.floats(0, 1e4), begun=st.floats(0, 1e6))
def test_answers_leave_at_multiples(quantum: float, took: float, begun: float) -> None:
    now = begun
    pace = Pace(quantum, clock=lambda: now)
    now = begun + took
    left = took + pace.wait_s()
    assert left >= took - 1e-6
    assert left >= quantum * (1 - 1e-6)
    assert abs(left / quantum - round(left / quantum)) < 1e-3 * max(1.0, left / quantum * 1e-3)
    assert left < took + quantum * (1 + 1e-6)


def share_of_the_quantum(folder: Path, graph: bytes, unit: str, data: Dataset, count_noise: float = 4.0) -> float:
    """How much of the time an answer waits for the graph needs, at the speed it was measured at, when all units are drawn.

    The number that is stated is 5 deviations of its noise too low.
    """
    noise: Dict[str, Any] = {name: 4.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    noise["count_noise_multiplier"] = count_noise
    task = make_task(privacy=Privacy(unit, epsilon=50.0, delta=1e-4, sampling_rate=1.0, **noise))
    inside = Inside(folder, task, graph, data)
    inside.run.state(max(1, inside.run.units - int(5 * count_noise)))
    asked = 0
    real = TrainingGraph.gradient_blocks

    def counting(self: TrainingGraph, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: Any = None) -> Any:
        nonlocal asked
        asked += len(x if rows is None else rows)
        return real(self, weights, x, y, rows)

    with patch.object(TrainingGraph, "gradient_blocks", counting):
        inside.answer(1, model())
    trainer = inside.run.trainer
    share = asked * trainer.record_seconds() / inside.run.quantum_s(1)  # type: ignore[union-attr]
    inside.close()
    assert asked >= inside.run.units
    return share


def test_the_process_of_a_graph_starts_before_the_time_of_an_answer_counts(tmp_path: Path, linear_graph: bytes) -> None:
    """And again where another run was served meanwhile, whose graph had the one process there is."""
    inside = Inside(tmp_path, planned(make_task(evaluation=Evaluation(share=0.5, bins=2))), linear_graph, make_data(20))
    for _ in range(2):
        inside.run.rest()
        assert not inside.run.processes()
        inside.run.wake()
        with patch("subprocess.Popen", side_effect=AssertionError("a process is started within the answer's time")):
            inside.answer(1, model())
    inside.close()


def test_every_sample_of_records_is_done_within_one_quantum(tmp_path: Path, linear_graph: bytes) -> None:
    assert share_of_the_quantum(tmp_path, linear_graph, "record", make_data(3000)) <= 1


def test_a_patient_of_many_rows_is_done_within_one_quantum(tmp_path: Path, linear_graph: bytes) -> None:
    """Otherwise anyone who waits for the answer sees in which rounds this patient was drawn."""
    rows = 80_000
    x = np.zeros((rows, INPUTS), np.float32)
    many = Dataset(x, np.arange(rows, dtype=np.int32) % CLASSES, np.full(rows, 999))
    assert share_of_the_quantum(tmp_path, linear_graph, "patient", joined(make_data(20), many)) <= 1


@pytest.mark.parametrize(("size", "most"), [(80_000, 32), (8, 3), (7, 3), (4, 3), (6, 3), (1 << 20, 1)])
def test_choosing_some_of_a_patients_rows_takes_no_longer_for_many(size: int, most: int) -> None:
    random, drawn = SecureRandom(), []
    real = random.uniform

    def counting(count: int) -> np.ndarray:
        drawn.append(count)
        return real(count)

    with patch.object(random, "uniform", counting):
        chosen = random.subset(size, most)
    assert len(set(chosen)) == most
    assert 0 <= chosen.min() <= chosen.max() < size
    assert sum(drawn) <= 100 * most


def test_all_rows_of_a_patient_are_chosen_alike() -> None:
    random = SecureRandom()
    for size in (5, 8):
        often = np.bincount(np.concatenate([random.subset(size, 3) for _ in range(3000)]), minlength=size)
        share = 3 / size
        assert abs(often - 3000 * share).max() < 8 * (3000 * share * (1 - share)) ** 0.5


def test_noise_on_the_stated_number_hides_no_sample(tmp_path: Path, linear_graph: bytes) -> None:
    """A gateway that has a node state 1 for 5,000 records would see the sample's size in how many quanta an answer takes."""
    assert share_of_the_quantum(tmp_path, linear_graph, "record", make_data(5001), MOST_COUNT_NOISE) <= 1
    with pytest.raises(ValueError, match="count_noise_multiplier: 20000, at most 1000"):
        Privacy(count_noise_multiplier=2e4)


class Ticks:
    """A clock that moves only by what is done, so that the work of an answer can be compared with the time it waits for."""

    def __init__(self, patcher: pytest.MonkeyPatch) -> None:
        self.now, self._patcher = 0.0, patcher
        clock = SimpleNamespace(perf_counter=lambda: self.now, monotonic=time.monotonic, sleep=time.sleep)
        patcher.setattr(pace, "time", clock)
        self.forget()

    @staticmethod
    def forget() -> None:
        """What was measured on this clock."""
        trainer._step_work.cache_clear()
        evaluation._evaluation_work.cache_clear()

    def takes(self, owner: Any, name: str, seconds: Callable[..., float]) -> None:
        real = getattr(owner, name)

        def slow(*values: Any, **named: Any) -> Any:
            self.now += seconds(*values)
            return real(*values, **named)

        self._patcher.setattr(owner, name, slow)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    yield Ticks(monkeypatch)
    Ticks.forget()


@pytest.mark.parametrize(
    "slow", ["gradients' mean", "lengths", "rounding", "noise", "counting", "counts' noise", "inference"]
)
def test_all_that_a_sample_takes_is_done_within_one_quantum(
    tmp_path: Path, linear_graph: bytes, monkeypatch: pytest.MonkeyPatch, ticks: Ticks, slow: str
) -> None:
    """Not its gradients alone: in a large model, or with many cells of an evaluation, the rest takes a hundred times as long."""
    monkeypatch.setattr(
        TrainingGraph, "record_seconds", lambda _, name="grad1": float(slow == "inference" and name == "infer1")
    )
    work: Dict[str, Tuple[Any, str, Callable[..., float]]] = {
        "gradients' mean": (trainer, "_mean", lambda *_: 1.0),
        "lengths": (noisy_sum, "row_norms", lambda rows: float(len(rows))),
        "rounding": (Lattice, "whole_steps", lambda _, rows, __: float(len(rows))),
        "noise": (NoisySum, "noise", lambda *_: 1.0),
        "counting": (sums, "count", lambda *_: 1.0),
        "counts' noise": (NoisyCounts, "noise", lambda *_: 1.0),
        "inference": (TrainingGraph, "record_logits", lambda _, __, x: float(len(x))),
    }
    owner, name, seconds = work[slow]
    ticks.takes(owner, name, seconds)
    noise: Dict[str, Any] = {name: 4.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    task = make_task(
        training=Training("fedavg", rounds=2, local_steps=2, learning_rate=1.0, parameters=PARAMETERS),
        privacy=Privacy(
            "patient" if slow == "gradients' mean" else "record", epsilon=50.0, delta=1e-4, sampling_rate=1.0, **noise
        ),
        evaluation=Evaluation(share=0.5, bins=2),
    )
    inside = Inside(tmp_path, task, linear_graph, make_data(300), make_data(300, seed=1))
    inside.run.state(300)
    inside.run.wake()
    for number in (1, 2, 3):  # trains, trains and evaluates, evaluates
        begun = ticks.now
        inside.answer(number, model())
        assert ticks.now - begun <= inside.run.quantum_s(number), number
    inside.close()
