"""Attack: the "other node's model" that a node scores is made to show records it holds out, or is its own, or comes twice.
Promise: one score a round, of losses in a fixed range, under the noise it is charged for; without noise by its owner's word."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import pytest
from distinguish import tell_apart
from inside import BATCH, CLASSES, INPUTS, PARAMETERS, Inside, joined, make_data, make_task, model

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent_at_post import AtPost
from graph_samples import softmax_regression

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DisclosureError, WireError
from orchestrator.node.agent import NodeAgent
from orchestrator.node.disclosure import Disclosure
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.ledger import LEDGER_FILE, Ledger
from orchestrator.node.scoring import scored
from orchestrator.privacy.accounting import plan_noise
from orchestrator.privacy.scoring import losses, score_range
from orchestrator.rounds.fuala import OWN
from orchestrator.wire.post import Post
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import Evaluation, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training
from orchestrator.wire.weight_step import digest_of_weights

GRAPH = softmax_regression(INPUTS, CLASSES, BATCH)
DRAWS = 400
TRAINING = Training("fuala", rounds=2, local_steps=1, learning_rate=0.1, parameters=PARAMETERS)
OPEN = Privacy("none")
BY_RECORD = Privacy("record", 2.0, 1e-4, 1.0, 0.5)


def task_of(privacy: Privacy = BY_RECORD) -> Task:
    rest: Dict[str, Any] = {"training": TRAINING, "evaluation": Evaluation(0.5, 2), "rounds": Rounds(4, 4)}
    return plan_noise(make_task(privacy=privacy, **rest))


def probing(target: Dataset) -> np.ndarray:
    """A model that calls one record's neighbourhood wrong as surely as float32 can say it, and is right elsewhere."""
    weights = np.zeros((INPUTS + 1, CLASSES), np.float32)
    weights[:INPUTS, 0] = 1e6 * target.x[0]
    weights[INPUTS, 0] = -1e6 * 0.9 * float(target.x[0] @ target.x[0])
    weights[:, 1] = -weights[:, 0]
    return weights.ravel()


def asking(weights: np.ndarray) -> Dict[str, Any]:
    return {"round": 2, "assigned": digest_of_weights(weights)}


@pytest.fixture
def guard(tmp_path: Path) -> DisclosureGuard:
    return DisclosureGuard(Disclosure, Inside(tmp_path, task_of(), GRAPH, make_data(8), run="guard").store)


def said(inside: Inside, weights: np.ndarray, guard: DisclosureGuard, **announced: Any) -> Dict[str, Any]:
    tensors = {**model(), "assigned": weights}
    return scored(inside.run, inside.store, 2, {**asking(weights), **announced}, tensors, guard)


def told_apart(folder: Path, task: Task, guard: DisclosureGuard) -> float:
    """A lower bound on epsilon of an attack that asks whether one record is held out."""
    crowd, target = (
        make_data(30, 1),
        Dataset(np.full((1, INPUTS), 0.9, np.float32), np.ones(1, np.int32), np.array([99])),
    )
    draws: List[np.ndarray] = []
    for name, held in (("with", joined(crowd, target)), ("without", crowd)):
        inside = Inside(folder, task, GRAPH, make_data(40), held, run=name)
        inside.run.state(40)
        draws.append(np.array([said(inside, probing(target), guard)["score"] for _ in range(DRAWS)]))
        inside.close()
    return tell_apart(draws[0], draws[1], task.privacy.delta)


def test_what_a_crafted_model_shows_of_one_record_is_within_what_is_charged(
    tmp_path: Path, guard: DisclosureGuard
) -> None:
    task = task_of()
    assert told_apart(tmp_path, task, guard) <= task.privacy.epsilon
    quiet = replace(task, privacy=replace(task.privacy, score_noise_multiplier=0.05))
    (tmp_path / "quiet").mkdir()
    assert told_apart(tmp_path / "quiet", quiet, guard) > task.privacy.epsilon  # with less noise the attack works


def test_and_without_noise_it_would_show_whether_the_record_is_there(tmp_path: Path, guard: DisclosureGuard) -> None:
    """What the owner's word on models without noise is about, and what the test above can see."""
    crowd, target = (
        make_data(30, 1),
        Dataset(np.full((1, INPUTS), 0.9, np.float32), np.ones(1, np.int32), np.array([99])),
    )
    found = {}
    for name, held in (("with", joined(crowd, target)), ("without", crowd)):
        inside = Inside(tmp_path, task_of(OPEN), GRAPH, make_data(40), held, run=name)
        found[name] = said(inside, probing(target), guard)["score"]
        inside.close()
    assert abs(found["with"] - found["without"]) > 0.02


@pytest.mark.parametrize(
    "weights", [np.full(PARAMETERS, 3e38), np.full(PARAMETERS, -3e38), np.linspace(-3e38, 3e38, PARAMETERS)]
)
def test_no_model_makes_a_record_count_for_more_than_the_range(
    tmp_path: Path, guard: DisclosureGuard, weights: np.ndarray
) -> None:
    """Outputs overflow: what is no number costs all of the range, and no more."""
    task = task_of(OPEN)
    inside = Inside(tmp_path, task, GRAPH, make_data(10), make_data(20, 3))
    score = said(inside, weights.astype(np.float32), guard)["score"]
    assert 0.0 <= score <= score_range(task)
    impossible = np.array([[np.nan, np.nan], [0.0, 1.0], [1.0, 0.0]])
    assert losses(task, impossible, np.array([0, 0, 0])).tolist() == [score_range(task), score_range(task), 0.0]


OTHERS: Dict[str, np.ndarray] = {
    "of another size": np.zeros(PARAMETERS + 1, np.float32),
    "of another type": np.zeros(PARAMETERS, np.float64),
    "not finite": np.full(PARAMETERS, np.nan, np.float32),
    "of other dimensions": np.zeros((1, PARAMETERS), np.float32),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_model_of_the_task_is_not_scored(tmp_path: Path, guard: DisclosureGuard, what: str) -> None:
    inside = Inside(tmp_path, task_of(), GRAPH, make_data(10), make_data(20, 3))
    with pytest.raises(WireError, match="round 2 came with a model to score that is not"):
        said(inside, OTHERS[what], guard)


def test_a_model_that_was_not_announced_is_not_scored(tmp_path: Path, guard: DisclosureGuard) -> None:
    inside = Inside(tmp_path, task_of(), GRAPH, make_data(10), make_data(20, 3))
    weights = np.ones(PARAMETERS, np.float32)
    with pytest.raises(WireError, match="another model to score than it names"):
        said(inside, weights, guard, assigned="0" * 64)
    with pytest.raises(WireError, match="without 'assigned'"):
        scored(inside.run, inside.store, 2, {"round": 2}, {**model(), "assigned": weights}, guard)


def test_rules_of_disclosure_count_held_out_patients(tmp_path: Path) -> None:
    inside = Inside(tmp_path, task_of(OPEN), GRAPH, make_data(40), make_data(9, 3))
    weights = np.ones(PARAMETERS, np.float32)
    for least, passes in ((9, True), (10, False)):
        strict = DisclosureGuard(partial(Disclosure, minimum_patients=least), inside.store)
        if passes:
            assert "score" in said(inside, weights, strict)
        else:
            with pytest.raises(DisclosureError, match="a score of 9 patients held out, at least 10"):
                said(inside, weights, strict)


def test_records_of_one_patient_are_one_patient(tmp_path: Path) -> None:
    """Without noise each record is a unit, and the owner's rule is about people."""
    inside = Inside(tmp_path, task_of(OPEN), GRAPH, make_data(40), make_data(50, 3, patients=[7] * 50))
    strict = DisclosureGuard(lambda: Disclosure(minimum_patients=10), inside.store)
    with pytest.raises(DisclosureError, match="a score of 1 patient held out, at least 10"):
        said(inside, np.ones(PARAMETERS, np.float32), strict)


class Still:
    """A trainer that moves nothing, so that a test knows the node's own model."""

    def __init__(self, *_: Any) -> None:
        pass

    def train(self, weights: np.ndarray, number: int, correction: Optional[np.ndarray] = None) -> np.ndarray:
        return np.full_like(weights, 0.5)

    def gradient_sum(self, weights: np.ndarray, limit: int) -> np.ndarray:
        raise NotImplementedError("its tasks have no distributed noise")


class Node:
    """A whole agent, with its ledger and its owner's policy."""

    def __init__(self, folder: Path, policy: str, task: Task) -> None:
        self.state, rows = folder / "state", make_data(60)
        assert rows.patients is not None
        lines = [
            ",".join([*(f"{v:.6f}" for v in x), str(y), str(who)]) for x, y, who in zip(rows.x, rows.y, rows.patients)
        ]
        (folder / "data.csv").write_text("x0,x1,x2,y,who\n" + "\n".join(lines) + "\n")
        (folder / "policy.toml").write_text(policy)
        self.state.mkdir()
        rules = folder / "policy.toml" if policy else None
        self.agent = NodeAgent(Post(), "test", "icu", folder / "data.csv", self.state, Still, policy=rules)
        self.post = AtPost(self.agent)
        self.post.hear(
            {"kind": "task", "run": "run", "task": task_to_dict(task)}, {"graph": np.frombuffer(GRAPH, np.uint8)}
        )

    def round(self, number: int, assigned: Optional[np.ndarray] = None) -> List[Any]:
        header: Dict[str, Any] = {"kind": "round", "run": "run", "round": number}
        tensors = model()
        if assigned is not None:
            header["assigned"], tensors["assigned"] = digest_of_weights(assigned), assigned
        return self.post.hear(header, tensors)

    def charged(self) -> Dict[str, int]:
        ledger = Ledger(self.state / LEDGER_FILE, [])
        known = ledger.reservation("run")
        ledger.close()
        assert known is not None
        return known.used


ALLOWED = '[require]\nunits = ["record"]\npatient = "*"\n[allow]\nmodels_to_nodes = "noised"\n'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path, ALLOWED, task_of())
    yield found
    found.agent.close()


def answers(heard: List[Any]) -> List[Any]:
    return [(header, tensors) for header, tensors in heard if header["kind"] == "update"]


def test_a_second_model_in_a_round_gets_the_first_ones_answer(node: Node) -> None:
    """Noise that is drawn twice has a mean: two scores for one charge would be worth half of it."""
    assert "score" not in answers(node.round(1))[0][0]
    first = np.full(PARAMETERS, 0.25, np.float32)
    (header, _), *_ = answers(node.round(2, first))
    assert header["assigned"] == digest_of_weights(first)
    (other, _), *_ = answers(node.round(2, np.full(PARAMETERS, 0.3, np.float32)))
    assert (other["score"], other["assigned"]) == (header["score"], header["assigned"])
    assert node.charged()["score"] == 1


def test_a_node_does_not_score_its_own_model(node: Node) -> None:
    assert answers(node.round(1))
    kept = node.agent.store.kept("run", OWN)
    assert kept is not None
    np.testing.assert_array_equal(kept.vector, np.full(PARAMETERS, 0.5, np.float32))
    heard = node.round(2, np.full(PARAMETERS, 0.5, np.float32))
    assert not answers(heard)
    assert [header["kind"] for header, _ in heard] == ["refused"]


POLICIES = {
    "no policy, noise": ("", BY_RECORD, "ready"),
    "no policy, no noise": ("", OPEN, "policy.models"),
    "a policy that does not say": ('[require]\nunits = ["record"]\n', BY_RECORD, "policy.models"),
    "noised models": (ALLOWED, BY_RECORD, "ready"),
    "noised models, no noise": (ALLOWED.replace("record", "none") + "", OPEN, "policy.stage"),
    "noised models only": (
        '[require]\nunits = ["none"]\nstages = []\n[allow]\nmodels_to_nodes = "noised"\n',
        OPEN,
        "policy.models",
    ),
    "any models": ('[require]\nunits = ["none"]\nstages = []\n[allow]\nmodels_to_nodes = "any"\n', OPEN, "ready"),
}


@pytest.mark.parametrize("case", POLICIES)
def test_other_nodes_see_models_only_where_the_owner_lets_them(tmp_path: Path, case: str) -> None:
    policy, privacy, expected = POLICIES[case]
    found = Node(tmp_path, policy, task_of(privacy))
    word = found.post.presence()
    found.agent.close()
    assert word.get("code", word["kind"]) == expected, word
