"""What comes between the messages of a run does not make a node forget it."""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from test_node_says_codes import PLAIN, Node, good
from test_policy import make_task

from orchestrator.node.open_runs import MOST_RUNS, OpenRuns
from orchestrator.node.run import TrainerFactory
from orchestrator.wire.body import decode_body
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import task_to_dict
from orchestrator.wire.training import Training

TASK = make_task(**{**PLAIN, "privacy": Privacy(unit="none"), "training": Training(rounds=5)})
OTHER = make_task(**{**PLAIN, "privacy": Privacy(unit="none"), "name": "other"})


class Still:
    def __init__(self, *_: Any) -> None:
        pass

    def train(self, weights: np.ndarray, round_number: int, correction: Any = None) -> np.ndarray:
        return np.zeros_like(weights)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


SHAPE = TASK.schema.input_shape
MODEL = {"weights": np.zeros(3, np.float32), "mean": np.zeros(SHAPE, np.float32), "std": np.ones(SHAPE, np.float32)}


class Trained(Node):
    """A node whose trainer learns nothing, or what a test gives it."""

    def __init__(self, folder: Path, policy: str = "", trainer: TrainerFactory = Still) -> None:
        super().__init__(folder, good(20), policy, trainer=trainer)

    def task(self, run: str, task: Any = TASK) -> Dict[str, Any]:
        return self.asked(task, run)

    def round(self, run: str, number: int) -> List[str]:
        """Kinds of what it says to a round."""
        return [said["kind"] for said, _ in self.hear({"kind": "round", "run": run, "round": number}, MODEL)]


def test_a_message_this_machine_has_no_memory_for_is_refused_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Trained(tmp_path)
    node.task("a")

    def exhausted(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(node.agent.runs.at.weights, "whole", exhausted)
        assert node.round("a", 1) == ["refused"]
    assert node.round("a", 2) == ["update"]


def test_a_run_that_goes_on_after_another_finds_its_node_where_it_left_it(tmp_path: Path) -> None:
    node = Trained(tmp_path)
    assert node.task("a")["kind"] == "ready"
    assert node.round("a", 1) == ["update"]
    said = node.task("b", OTHER)  # its gateway was stopped, and another run begun
    assert (said["kind"], said["run"]) == ("ready", "b")
    assert [word["run"] for word in said["runs"] if word["kind"] == "ready"] == ["a"]
    assert node.round("b", 1) == ["update"]
    assert node.round("a", 2) == ["update"], "the first run is still served"
    again = node.task("a")  # the very same transfer, from its gateway's next process
    assert (again["kind"], again["run"]) == ("ready", "a")
    node.hear({"kind": "finished", "run": "b", "reason": ""})
    assert node.round("a", 3) == ["update"]
    assert node.agent.runs.at.run is not None


def test_a_step_of_one_run_is_answered_while_a_round_of_another_waits(tmp_path: Path) -> None:
    node = Trained(tmp_path)
    node.task("a")
    node.task("b", OTHER)
    node.put({"kind": "round", "run": "b", "round": 1}, MODEL)
    node.put({"kind": "step", "run": "a", "round": 1, "attempt": 1, "step": "shares"})
    answered = [(said["kind"], said["run"]) for said, _ in node.work()]
    assert answered == [("abstain", "a"), ("update", "b")], "the round of the other run was still to be answered"


def test_a_task_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    node = Trained(tmp_path, "[require]\nunits = ['none']\nstages = []\n[allow]\ntasks = ['stroke']\n")
    assert node.task("a", make_task(**{**PLAIN, "privacy": Privacy(unit="none"), "name": "stroke"}))["kind"] == "ready"
    said = node.task("b", OTHER)
    assert (said["kind"], said["run"], said["code"]) == ("declined", "b", "policy.task")
    assert [(word["kind"], word["run"]) for word in said["runs"]] == [("ready", "a")]
    assert node.round("a", 1) == ["update"]


def test_a_round_before_its_task_is_answered_after_it(tmp_path: Path) -> None:
    node = Trained(tmp_path)
    assert node.round("a", 1) == []
    said = node.hear({"kind": "task", "run": "a", "task": task_to_dict(TASK)}, {"graph": np.zeros(1, np.uint8)})
    assert [header["kind"] for header, _ in said] == ["ready", "update"]
    assert node.agent.runs.at.run is not None
    assert node.round("a", 1) == ["update"], "the same round, announced again, was swallowed"


@pytest.mark.slow
def test_the_words_and_runs_of_a_node_are_bounded(tmp_path: Path) -> None:
    node = Trained(tmp_path)
    for number in range(30):
        said = node.task(f"r{number}")
    assert len(said["runs"]) <= 8
    assert node.agent.runs.find("r0") is None
    assert sum(node.agent.runs.find(f"r{number}") is not None for number in range(30)) == MOST_RUNS


def test_a_run_that_ends_leaves_the_others(tmp_path: Path) -> None:
    runs = OpenRuns()
    assert not runs.turn_to("a")
    runs.say({"kind": "waiting", "run": "a"})
    runs.end("a")
    assert runs.words(but="") == []


def test_an_answer_says_where_the_ledger_ends_with_it(tmp_path: Path) -> None:
    node = Trained(tmp_path)
    node.task("a")
    before = node.agent.gatekeeper.ledger_head()["entries"]
    node.round("a", 1)
    run = node.agent.runs.at.run
    assert run is not None
    body = node.agent.store.released("a", 1, run.digest)
    assert body is not None
    assert decode_body(body, 1 << 20)[0]["ledger"]["entries"] == before + 1
