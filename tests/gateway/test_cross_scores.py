"""What a gateway makes of nodes' scores: who is beyond all bounds is refused by name, who scores another model is named."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from orchestrator.errors import WireError
from orchestrator.gateway.cross_scores import MISSCORED, STANDING, CrossScores
from orchestrator.gateway.memory_store import MemoryStore
from orchestrator.gateway.run import heads_of
from orchestrator.gateway.run_store import STATE_PREFIX
from orchestrator.privacy.accounting import plan_noise
from orchestrator.privacy.scoring import score_range
from orchestrator.rounds.strategy import Update
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

NODES = "abcd"
PARAMETERS = 4


def task_of(unit: str = "none") -> Task:
    schema = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range")
    rest: Dict[str, Any] = {
        "evaluation": Evaluation(0.25),
        "rounds": Rounds(4, 4),
        "training": Training("fuala", 6, parameters=PARAMETERS),
    }
    return plan_noise(Task("t", schema, {}, privacy=Privacy(unit, 3.0, 1e-4, 1.0, 0.5), **rest))


def scores_of(task: Task) -> CrossScores:
    """Of a run whose first round is over."""
    store = MemoryStore()
    store.create_run("run", task_to_dict(task), b"", np.zeros(PARAMETERS, np.float32))
    for place, node in enumerate(NODES):
        store.put_vector("run", f"{STATE_PREFIX}last/{node}", np.full(PARAMETERS, place + 0.5))
    return CrossScores(store, "run", task)


def answer(score: Any, assigned: str = "0" * 64, records: int = 40) -> Dict[str, Any]:
    return {"kind": "update", "records": records, "units": records, "score": score, "assigned": assigned}


def test_a_node_is_given_the_same_other_nodes_model_however_often_it_is_asked() -> None:
    scores = scores_of(task_of())
    given = {node: scores.own(2, node) for node in NODES}
    for place, node in enumerate(NODES):
        (fields, tensors), (again, _) = given[node], scores.own(2, node)
        assert fields == again
        assert tensors["assigned"].dtype == np.float32
        assert tensors["assigned"][0] != place + 0.5
    assert len({fields["assigned"] for fields, _ in given.values()}) == len(NODES)
    assert scores.own(1, "a") == ({}, {})


@pytest.mark.parametrize("lie", [float("nan"), float("inf"), -0.01, 2.09, 1e30, 1, "0.5", None])
def test_without_noise_a_score_that_no_records_come_to_is_refused(lie: Any) -> None:
    with pytest.raises(WireError, match="score"):
        scores_of(task_of()).check(2, "a", answer(lie))


@pytest.mark.parametrize("lie", [float("nan"), 1e4, -1e4])
def test_with_noise_it_may_be_beyond_what_losses_are_by_what_noise_comes_to(lie: float) -> None:
    scores = scores_of(task_of("record"))
    for honest in (-0.2, 0.0, 0.7, 2.3):
        scores.check(2, "a", answer(honest))
    with pytest.raises(WireError, match="score"):
        scores.check(2, "a", answer(lie))


def test_an_answer_without_its_score_is_refused_from_round_two_on() -> None:
    scores = scores_of(task_of())
    bare = {name: value for name, value in answer(0.5).items() if name not in ("score", "assigned")}
    scores.check(1, "a", bare)
    with pytest.raises(WireError, match="without 'score'"):
        scores.check(2, "a", bare)


def test_what_noise_carried_beyond_the_range_counts_as_its_end() -> None:
    task = task_of("record")
    scores = scores_of(task)
    (fields, _), update = scores.own(2, "a"), Update("a", 10.0, np.zeros(PARAMETERS, np.float32))
    for said, counted in ((-0.4, 0.0), (0.6, 0.6), (score_range(task) + 0.3, score_range(task))):
        found = scores.scored(2, answer(said, fields["assigned"]), update)
        assert found.score == pytest.approx(counted)
        assert found.scored in set(NODES) - {"a"}


def test_a_model_that_is_its_scorers_own_to_the_last_bit_is_not_given_to_it() -> None:
    """Its node would refuse the round, and be charged for it: one hospital could have another fail."""
    store = MemoryStore()
    store.create_run("run", task_to_dict(task_of()), b"", np.zeros(PARAMETERS, np.float32))
    for place, node in enumerate(NODES):
        store.put_vector("run", f"{STATE_PREFIX}last/{node}", np.full(PARAMETERS, 0.5 if node == "b" else place + 0.5))
    same = CrossScores(store, "run", task_of())
    bare = {name: value for name, value in answer(0.5).items() if name not in ("score", "assigned")}
    given = 0
    for number in (2, 3, 4):
        fields, tensors = same.own(number, "a")
        if fields:
            given += 1
            assert tensors["assigned"][0] != 0.5
            with pytest.raises(WireError, match="without 'score'"):
                same.check(number, "a", bare)
        else:
            same.check(number, "a", bare)
            update = Update("a", 10.0, np.zeros(PARAMETERS, np.float32))
            assert same.scored(number, bare, update) == update
    assert given == 2  # of three others
    assert same.figures({}) == {}


def test_who_scores_another_model_than_it_was_given_is_named_and_not_counted() -> None:
    scores = scores_of(task_of())
    update = Update("a", 10.0, np.zeros(PARAMETERS, np.float32))
    assert scores.scored(2, answer(0.5), update) == update
    assert scores.figures({})[MISSCORED] == ["a"]
    scores.begin()
    assert scores.figures({}) == {}
    said = scores.figures({f"{STATE_PREFIX}share/a": np.array([0.25]), f"{STATE_PREFIX}score/a": np.array([1.5])})
    assert said == {STANDING: {"a": {"score": 1.5, "share": 0.25}}}


def test_heads_are_of_models_that_generalise(tmp_path: Path) -> None:
    task, store = task_of(), MemoryStore()
    store.create_run("run", task_to_dict(task), b"", np.zeros(PARAMETERS, np.float32))
    for node, score in zip(NODES, (1.0, 1.49, 1.51, 0.9)):
        store.put_vector("run", f"{STATE_PREFIX}last/{node}", np.full(PARAMETERS, score))
        store.put_vector("run", f"{STATE_PREFIX}score/{node}", np.array([score]))
        store.put_vector("run", f"{STATE_PREFIX}share/{node}", np.array([0.25]))
    heads, left_out = heads_of(store, "run", task)
    assert heads is not None
    np.testing.assert_allclose(heads[:, 0], [1.0, 1.49, 0.9], rtol=1e-6)
    assert left_out == ["c"]


def test_models_are_those_of_the_newest_round() -> None:
    task, store = task_of(), MemoryStore()
    store.create_run("run", task_to_dict(task), b"", np.zeros(PARAMETERS, np.float32))
    scores = CrossScores(store, "run", task)
    assert scores.own(2, "a") == ({}, {})
    for number in (1, 2):
        for node in NODES:
            store.put_vector("run", f"{STATE_PREFIX}last/{node}", np.full(PARAMETERS, number + ord(node) / 256))
        store.put_result("run", number, {})
        assert int(scores.own(number + 1, "a")[1]["assigned"][0]) == number
