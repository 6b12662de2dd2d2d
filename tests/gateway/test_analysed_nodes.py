"""A run whose nodes leave and come back: where it ends, and whose rows it says the result is of."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from orchestrator.analyses.registry import analysis_of, spelled_out
from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.analysed import result_of
from orchestrator.gateway.analysed_nodes import over
from orchestrator.gateway.store import Store
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.body import encode_body
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

FEATURES = (
    Feature("t", 0, 30),
    Feature("dead", categories=("0", "1")),
    Feature("age", 0, 100),
)
OPEN = Privacy("none")
KINDS: Dict[str, Dict[str, Any]] = {
    "logistic": {"kind": "regression", "family": "logistic", "outcome": "dead", "inputs": ("age",)},
    "cox": {"kind": "cox", "time": "t", "event": "dead", "steps": 30},
    "mixture": {"kind": "mixture", "components": 2, "rounds": 200},
}
HERE: List[Tuple[str, ...]] = [("a", "b"), ("a", "b"), ("b",), ("a", "b"), ("a", "b", "c")]
"""In the first rounds; from then on as in the last of these."""


def task_of(kind: str, privacy: Privacy = OPEN) -> Task:
    schema, rounds = Schema("table", "", (), {}, FEATURES), Rounds(3, 1)
    task = Task("t", schema, {}, privacy=privacy, rounds=rounds, analysis=KINDS[kind])
    analysis = analysis_of(task)
    training = Training(rounds=analysis.rounds, parameters=analysis.sums.size)
    return spelled_out(replace(task, training=training))


def records() -> Dict[str, np.ndarray]:
    draw, found = np.random.default_rng(3), {}
    for number, name in enumerate("abc"):
        x = np.zeros((60 + 20 * number, 4))
        x[:, 3] = draw.uniform(20, 90, len(x))
        x[:, 0] = np.minimum(np.ceil(draw.exponential(900 / x[:, 3])), 29)
        x[np.arange(len(x)), 1 + (draw.random(len(x)) < 0.2 + 0.2 * number).astype(int)] = 1.0
        found[name] = x
    return found


def played(store: Store, task: Task, here: List[Tuple[str, ...]]) -> int:
    """Rounds of a run in the open, over the nodes of `here`; how many it took."""
    analysis, sites, run = analysis_of(task), records(), "run"
    store.create_run(run, task_to_dict(task), b"", analysis.begin(0))
    aggregation = Aggregation(store, run, task, None)
    for number in range(1, analysis.rounds + 1):
        nodes = here[min(number, len(here)) - 1]
        question = analysis.question(aggregation.weights())
        for name in nodes:
            header = {"kind": "update", "run": run, "round": number, "records": len(sites[name]), "codec": "float64"}
            body = encode_body(header, {"update": analysis.vectors(question, sites[name]).sum(axis=0)})
            store.put_update(run, number, name, body)
        outcome = aggregation.outcome(Aggregate(number, nodes), 0.0)
        with store.transaction():
            for name, vector in outcome.vectors.items():
                store.put_vector(run, name, vector)
            store.put_result(run, number, {"round": number, "nodes": list(nodes)})
        if outcome.stop:
            return number
    return analysis.rounds + 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_that_of_the_nodes_that_are_here_in_the_end(tmp_path: Path, kind: str) -> None:
    """A likelihood is smaller over more records, wherever the coefficients lead: it is no reason to go back."""
    tables, rounds, task = [], [], task_of(kind)
    for name, here in (("some", HERE), ("all", HERE[-1:])):
        store = Store(tmp_path / f"{name}.sqlite")
        rounds.append(played(store, task, here))
        tables.append(result_of(store, "run", task).tables[0].rows)
    assert rounds[0] <= analysis_of(task).rounds, "it ends by itself"
    for found, expected in zip(*tables):
        assert found[0] == expected[0]
        np.testing.assert_allclose(
            np.float64(found[1:]), np.float64(expected[1:]), rtol=1e-4 if kind == "mixture" else 1e-7
        )


def test_it_is_said_whose_rows_a_result_is_of(tmp_path: Path) -> None:
    store, task = Store(tmp_path / "store.sqlite"), task_of("logistic")
    store.create_run("run", task_to_dict(task), b"", analysis_of(task).begin(0))
    for number, nodes in ((1, ["a", "b", "c"]), (2, ["a", "c"]), (3, []), (4, ["a", "c"])):
        store.put_result("run", number, {"round": number, "nodes": nodes})
    joined = {"a": 60, "b": 80, "c": 1000, "late": 7}
    found = over(store, "run", task, joined)
    assert found.as_dict() == {
        "nodes": ["a", "c"],
        "records": 1060,
        "stated": "exact",
        "missing": {"b": 1, "late": None},
        "nodes_by_round": {"1": 3, "2": 2, "4": 2},
    }
    whole, others, rounds = found.notes()
    assert whole == "over 2 of 4 nodes, 1,060 records: a, c"
    assert others == "not in it: b (last in round 1), late (in no round)"
    assert rounds.startswith("rounds were over different nodes, 3 in round 1, 2 in round 2, 2 in round 4: ")
    noisy = over(store, "run", task_of("logistic", Privacy(noise_multiplier=2.0, sampling_rate=1.0)), joined)
    assert next(noisy.notes()) == "over 2 of 4 nodes, about 1,060 records (nodes state it with noise): a, c"


def test_of_very_many_nodes_a_note_names_some(tmp_path: Path) -> None:
    store, task = Store(tmp_path / "store.sqlite"), task_of("logistic")
    names = [f"n{number:04}" for number in range(3000)]
    store.create_run("run", task_to_dict(task), b"", analysis_of(task).begin(0))
    store.put_result("run", 1, {"round": 1, "nodes": names})
    (note,) = over(store, "run", task, dict.fromkeys(names, 2)).notes()
    assert note.startswith("over 3,000 of 3,000 nodes, 6,000 records: n0000, n0001")
    assert note.endswith("n0019 and 2980 more")
