"""Attack: how long a node takes says whom it computed on. Promise: an answer that rests on a secret sample leaves at a multiple
of a time made of public numbers, long enough for any sample; no one record or patient puts it off to the next."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inside import CLASSES, INPUTS, Inside, joined, make_data, make_task, model, planned

from orchestrator.node.data import Dataset
from orchestrator.node.pace import Pace
from orchestrator.node.runtime import TrainingGraph
from orchestrator.wire.protection import MOST_COUNT_NOISE, Privacy
from orchestrator.wire.task import Evaluation


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
    noise = {name: 4.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    noise["count_noise_multiplier"] = count_noise
    task = make_task(privacy=Privacy(unit, epsilon=50.0, delta=1e-4, sampling_rate=1.0, **noise))
    inside = Inside(folder, task, graph, data)
    inside.run.state(max(1, inside.run.units - int(5 * count_noise)))
    asked = 0
    real = TrainingGraph.record_gradients

    def counting(self: TrainingGraph, weights: np.ndarray, x: np.ndarray, y: np.ndarray, rows: Any = None) -> Any:
        nonlocal asked
        asked += len(x if rows is None else rows)
        return real(self, weights, x, y, rows)

    with patch.object(TrainingGraph, "record_gradients", counting):
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
    """Otherwise whoever waits for the answer sees in which rounds this patient was drawn."""
    rows = 80_000
    x = np.zeros((rows, INPUTS), np.float32)
    many = Dataset(x, np.arange(rows, dtype=np.int32) % CLASSES, np.full(rows, 999))
    assert share_of_the_quantum(tmp_path, linear_graph, "patient", joined(make_data(20), many)) <= 1


def test_noise_on_the_stated_number_hides_no_sample(tmp_path: Path, linear_graph: bytes) -> None:
    """A gateway that has a node state 1 for 5,000 records would see the sample's size in how many quanta an answer takes."""
    assert share_of_the_quantum(tmp_path, linear_graph, "record", make_data(5001), MOST_COUNT_NOISE) <= 1
    with pytest.raises(ValueError, match="count_noise_multiplier: 20000, at most 1000"):
        Privacy(count_noise_multiplier=2e4)
