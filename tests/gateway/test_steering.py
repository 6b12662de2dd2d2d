"""Which figures `best` and `patience` go by: none that is mostly noise, and it is said once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.outcome import Outcome
from orchestrator.gateway.store import Store
from orchestrator.privacy.noisy_sum import evaluation_noise
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.body import encode_body
from orchestrator.wire.evaluation import count
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

SCHEMA = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", -4, 4),), standardization="range")
TRAINING = Training(rounds=9, best=True, patience=1)
NOISED = Privacy(noise_multiplier=1.0, evaluation_noise_multiplier=3.0)
TASK = Task("t", SCHEMA, {}, TRAINING, NOISED, Rounds(), evaluation=Evaluation(0.3))


class Evaluated:
    """The last evaluation of a run whose node held out `records`, all answered alike."""

    def __init__(self, folder: Path, records: int, task: Task = TASK) -> None:
        self.task, self.records = task, records
        self.store = Store(folder / "gateway.sqlite")
        self.store.create_run("run", task_to_dict(task), b"graph", np.zeros(4, np.float32))

    def outcome(self, round_before: int = 9) -> Outcome:
        self.store.put_result("run", round_before, {"round": round_before, "nodes": ["a"]})
        y = np.arange(self.records) % 2
        p = np.where(y == 1, 0.8, 0.2)
        sums = count(y, np.stack([1 - p, p], axis=1), self.task.evaluation.bins)
        sums = sums + np.random.default_rng(0).normal(0, evaluation_noise(self.task, 1), sums.shape)
        header: Any = {"kind": "update", "round": 10, "records": 7}
        self.store.put_update("run", 10, "a", encode_body(header, {"evaluation": sums.astype(np.float32)}))
        return Aggregation(self.store, "run", self.task, None).outcome(Aggregate(10, ("a",)), 7.0)


def test_noise_chooses_no_round_and_stops_nothing(tmp_path: Path) -> None:
    run = Evaluated(tmp_path, 67)
    found = run.outcome(8)
    assert "best" not in found.vectors
    assert not found.stop
    assert "best and patience do not go by loss: the noise of federated evaluation" in found.notice
    assert found.evaluated is not None
    assert found.evaluated[1]["federated"]["steers"] is False
    run.store.add_to_result("run", *found.evaluated)  # a gateway that began again knows what was said
    again = Evaluated.outcome(run)
    assert again.notice == ""
    assert "best" not in again.vectors


def test_figures_with_little_noise_steer(tmp_path: Path) -> None:
    found = Evaluated(tmp_path, 200_000).outcome()
    assert found.notice == ""
    assert "best" in found.vectors


def test_without_privacy_the_smallest_sample_steers(tmp_path: Path) -> None:
    found = Evaluated(tmp_path, 6, replace(TASK, privacy=Privacy("none"))).outcome()
    assert "best" in found.vectors


def test_figures_of_before_their_noise_was_known_do_not_count(tmp_path: Path) -> None:
    run = Evaluated(tmp_path, 200_000)
    run.store.put_result("run", 7, {"round": 7, "nodes": ["a"], "federated": {"loss": 0.001}})
    assert "best" in run.outcome().vectors
