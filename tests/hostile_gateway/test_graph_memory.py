"""Attack: a graph that remembers one record in later answers, or mixes the records of a batch. Promise: it is refused before
any record meets it, and what does run sees each record by itself."""

from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from inside import BATCH, INPUTS, PARAMETERS, csv_of, make_schema, make_task, model
from malicious import Attack, Victim
from watch import OpenWatch

from orchestrator.errors import EdgewardError
from orchestrator.node.runtime import TrainingGraph
from orchestrator.wire.protection import Privacy

REMEMBER = ["GradientRemembers", "InferenceRemembers", "EvaluationTellsTraining", "DrawsItsOwn"]
BRANCH = ["WorksLonger", "Branches"]
MIX = ["MaximumOfTheBatch", "SumOfTheBatch", "SortedBatch", "RunningSum"]
MISFIT = ["TooManyWeights", "EatsMemory"]
FAIL = ["LooksBeyondTheEnd", "LooksBeyondTheEndWhenAsked", "DividesByNothing", "NoShape"]
"""An error where there was one record more is an answer about that record."""

WEIGHTS = np.linspace(-1, 1, PARAMETERS).astype(np.float32)
ORDINARY = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.4, -0.4, 0.4], [-0.2, 0.5, 0.0]], np.float32)
WANTED = np.array([[0.95, 0.37, -0.81]], np.float32)
"""The record the gateway is after."""


@pytest.mark.parametrize("name", [*REMEMBER, *BRANCH])
def test_a_graph_with_a_memory_or_with_branches_is_refused(evil_graphs: Dict[str, bytes], name: str) -> None:
    from orchestrator.errors import GraphError

    with pytest.raises(GraphError):
        TrainingGraph(evil_graphs[name]).record_gradient(WEIGHTS, ORDINARY[:1], np.zeros(1, np.int32))


def answers(graph: TrainingGraph, x: np.ndarray) -> List[np.ndarray]:
    """Everything a node asks a graph about ordinary records, with `x` among them."""
    rows = np.concatenate([ORDINARY[:1], x, ORDINARY[1:]])
    gradients = [graph.record_gradient(WEIGHTS, row[None], np.zeros(1, np.int32)) for row in rows]
    logits = graph.record_logits(WEIGHTS, rows)
    again = [graph.record_gradient(WEIGHTS, row[None], np.zeros(1, np.int32)) for row in rows]
    others = [i for i in range(len(rows)) if i != 1]
    return [np.stack(gradients)[others], logits[others], np.stack(again)[others]]


@pytest.mark.parametrize("name", [*REMEMBER, *BRANCH, *MIX, *FAIL])
def test_no_record_changes_the_answers_of_others(evil_graphs: Dict[str, bytes], name: str) -> None:
    """Refused, or each row's answer is the same whoever else is there. A graph's state is the same at the start of both."""
    try:
        graphs = [TrainingGraph(evil_graphs[name]) for _ in range(2)]
    except EdgewardError:
        return  # before it met any record
    without, with_it = (answers(graph, x) for graph, x in zip(graphs, (ORDINARY[:1] * 0, WANTED)))
    for a, b in zip(without, with_it):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MISFIT)
def test_a_graph_of_another_size_ends_in_a_refusal(evil_graphs: Dict[str, bytes], name: str) -> None:
    """A gradient that is not as long as the weights, and one that wants 16 GiB: neither reaches the node's sums."""
    from orchestrator.errors import GraphError

    with pytest.raises(GraphError):
        TrainingGraph(evil_graphs[name]).record_gradient(WEIGHTS, ORDINARY[:1], np.zeros(1, np.int32))


def test_an_honest_graph_is_taken_and_right(linear_graph: bytes, evil_graphs: Dict[str, bytes]) -> None:
    """So that nothing above is refused for how it was made: the same maker's honest graph passes."""
    y = np.array([0, 1, 1, 0], np.int32)
    for graph in (TrainingGraph(linear_graph), TrainingGraph(evil_graphs["Honest"])):
        kernel, bias = WEIGHTS[: INPUTS * 2].reshape(INPUTS, 2), WEIGHTS[INPUTS * 2 :]
        logits = ORDINARY @ kernel + bias
        np.testing.assert_allclose(graph.logits(WEIGHTS, ORDINARY), logits, atol=1e-5)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(2)[y]
        for i in range(BATCH):
            expected = np.concatenate([np.outer(ORDINARY[i], p[i]).ravel(), p[i]])
            found = graph.record_gradient(WEIGHTS, ORDINARY[i : i + 1], y[i : i + 1])
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def open_node(victim: Victim) -> Attack:
    """Without a policy: any task is taken, so only the graph itself is in the way."""
    rng = np.random.default_rng(0)
    rows = [(*np.round(rng.uniform(-0.5, 0.5, INPUTS), 3), i % 2, f"p{i}") for i in range(30)]
    return victim(csv_of([*(f"x{i}" for i in range(INPUTS)), "y", "who"], rows))


def never_answers(attack: Attack, run: str, graph: bytes) -> Dict[str, object]:
    """Offers a task with this graph; returns the node's word. It declines, and lives on."""
    strong: Dict[str, Any] = {name: 5.0 for name in Privacy.__dataclass_fields__ if name.endswith("noise_multiplier")}
    task = make_task(make_schema(patient=""), privacy=Privacy(unit="record", epsilon=50.0, delta=1e-3, **strong))
    verdict = attack.gateway.offer(attack.node.name, run, task, graph)
    assert attack.node.alive
    return verdict


@pytest.mark.parametrize("name", [*REMEMBER, *BRANCH, *MISFIT, *FAIL])
def test_a_node_declines_a_task_whose_graph_is_evil(
    open_node: Attack, evil_graphs: Dict[str, bytes], name: str
) -> None:
    """In the task's answer, before the data file is opened: rounds are never come to."""
    with OpenWatch(open_node.node.data) as watch:
        verdict = never_answers(open_node, name, evil_graphs[name])
        assert verdict["kind"] == "declined", verdict
        assert watch.opened == 0


DAMAGES: Dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda graph: b"",
    "cut": lambda graph: graph[: len(graph) // 2],
    "no-header": lambda graph: bytes(16) + graph[16:],
    "root-far-away": lambda graph: b"\xff\xff\xff\x7f" + graph[4:],
    "root-inside": lambda graph: (len(graph) - 4).to_bytes(4, "little") + graph[4:],
    "noise": lambda graph: graph[:8] + np.random.default_rng(0).bytes(4000),
    "ones-in-the-middle": lambda graph: graph[:2000] + b"\xff" * 200 + graph[2200:],
    "zeros-in-the-middle": lambda graph: graph[:2000] + bytes(200) + graph[2200:],
    "shifted": lambda graph: graph[:8] + b"\0" + graph[8:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_graph_does_not_end_the_node(open_node: Attack, linear_graph: bytes, damage: str) -> None:
    """What is no graph any more is declined; what may still be one is declined, refused or run, and the node lives."""
    run = f"damaged-{damage}"
    verdict = never_answers(open_node, run, DAMAGES[damage](linear_graph))
    if damage not in ("ones-in-the-middle", "zeros-in-the-middle"):
        assert verdict["kind"] == "declined", verdict
    if verdict["kind"] == "ready":
        gateway, node = open_node
        word = gateway.provoke(node.name, {"kind": "round", "run": run, "round": 1}, model())
        assert word is not None
        assert node.alive
