"""A sparse support vector machine by cPDS, against the linear program of all rows: graphs, a node away, liars."""

import struct
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import numpy as np
import pytest
from hospitals import SCHEMA, hospitals

from orchestrator.analyses.agents import Outgoing, converse
from orchestrator.analyses.cpds import CpdsAgent, Setting
from orchestrator.analyses.inputs import Inputs, columns_of, present
from orchestrator.analyses.peer_graph import graph_of, objections
from orchestrator.analyses.registry import make
from orchestrator.analyses.svm import kept_weights
from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError, WireError

NODES = ("a", "b", "c", "d")
INPUTS = ("age", "sex", "cp", "trestbps", "fbs", "restecg", "thalach", "exang", "oldpeak")
STRENGTH, ITERATIONS = 0.003, 500
EDGES = (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"))


class Hearts(NamedTuple):
    """Of four hospitals: data, and rows (n, terms) of inputs times labels. weights, objective: of the linear program over all."""

    data: List[Dataset]
    rows: Dict[str, np.ndarray]
    weights: np.ndarray
    objective: float

    def worth(self, weights: np.ndarray) -> float:
        together = np.concatenate(list(self.rows.values()))
        return float(np.maximum(0, 1 - together @ weights).mean() + STRENGTH * np.abs(weights[1:]).sum())

    def setting(self, graph: str, iterations: int = ITERATIONS) -> Tuple[Setting, Callable[[str], Tuple[str, ...]]]:
        found = graph_of(graph, NODES, EDGES if graph == "edges" else ())
        records = sum(map(len, self.rows.values()))
        setting = Setting(len(self.weights), len(NODES), records, STRENGTH, 100.0, 5.0, iterations, found.widest)
        return setting, found.neighbours

    def agents(self, graph: str, iterations: int = ITERATIONS) -> Dict[str, CpdsAgent]:
        setting, neighbours = self.setting(graph, iterations)
        return {node: CpdsAgent(self.rows[node], setting, neighbours(node)) for node in NODES}

    def check(self, agents: Dict[str, CpdsAgent]) -> None:
        weights = kept_weights(np.mean([agent.x for agent in agents.values()], axis=0))
        assert self.objective <= self.worth(weights) <= self.objective * 1.001
        np.testing.assert_array_equal(weights[1:] != 0, np.abs(self.weights[1:]) > 1e-9)
        assert max(agent.apart() for agent in agents.values()) < 0.01
        assert all(agent.done for agent in agents.values())


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory, shared_data: Callable[[str], Path]) -> Hearts:
    optimize = pytest.importorskip("scipy.optimize")
    data, _ = hospitals(shared_data("heart-disease"), tmp_path_factory.mktemp("hearts"))
    inputs, outcome = Inputs(SCHEMA, INPUTS, ("disease",), True), SCHEMA.features[-1]
    rows = {}
    for node, each in zip(NODES, data):
        read, used = inputs.read(each.x)
        column = columns_of(each.x, SCHEMA)["disease"]
        rows[node] = (read * (2 * column[:, 1:] - 1))[used & present(column, outcome)]
    together = np.concatenate(list(rows.values()))
    records, terms = together.shape
    prices = np.append(0.0, np.full(terms - 1, STRENGTH))
    # Of w = u - v and losses: least mean loss and |w|_1, each loss at least 1 - a'w.
    found = optimize.linprog(
        np.concatenate([prices, prices, np.full(records, 1 / records)]),
        A_ub=np.hstack([-together, together, -np.eye(records)]),
        b_ub=-np.ones(records),
        bounds=(0, None),
        method="highs",
    )
    return Hearts(data, rows, found.x[:terms] - found.x[terms : 2 * terms], float(found.fun))


@pytest.mark.parametrize("graph", ["complete", "star", "ring", "line", "edges"])
def test_nodes_come_to_the_linear_program_of_all_rows(hearts: Hearts, graph: str) -> None:
    agents = hearts.agents(graph)
    converse(agents)
    hearts.check(agents)


class Wires:
    """Carries messages between agents of one process in order, and none to or from a node that is away."""

    def __init__(self, agents: Dict[str, CpdsAgent]) -> None:
        self.agents, self.away, self.lost = agents, "", ("", "")
        self.waiting: List[Tuple[str, str, bytes]] = []
        for name, agent in agents.items():
            self.post(name, agent.begin())

    def post(self, sender: str, said: Outgoing) -> None:
        self.waiting += [(sender, receiver, content) for receiver, content in said]

    def run(self, until: Callable[[], bool]) -> None:
        """Until that, or all are done; where nothing is under way, everybody who is here loses patience."""
        for _ in range(200_000):
            if until() or all(agent.done for agent in self.agents.values()):
                return
            if not self.waiting:
                for name, agent in self.agents.items():
                    self.post(name, agent.silent() if name != self.away else [])
                continue
            sender, receiver, content = self.waiting.pop(0)
            if self.away not in (sender, receiver) and self.lost != (sender, receiver):
                self.post(receiver, self.agents[receiver].take(sender, content))
        raise AssertionError("they wait for each other")


def gone_for(hearts: Hearts, graph: str, node: str, iterations: int) -> Dict[str, CpdsAgent]:
    agents = hearts.agents(graph)
    wires, others = Wires(agents), [name for name in NODES if name != node]
    wires.run(lambda: agents[node].number >= 100)
    left = agents[node].number
    wires.away = node
    wires.run(lambda: max(agents[name].number for name in others) >= left + iterations)
    assert agents[node].number == left
    wires.away = ""
    wires.run(lambda: False)
    assert agents[node].missed >= iterations - 5
    return agents


@pytest.mark.parametrize("node", ["a", "c"])
@pytest.mark.parametrize("graph", ["complete", "ring"])
def test_a_node_that_is_away_for_fifty_iterations_changes_nothing_in_the_end(
    hearts: Hearts, graph: str, node: str
) -> None:
    hearts.check(gone_for(hearts, graph, node, 50))


@pytest.mark.parametrize("node", ["a", "b"])
def test_so_does_one_at_the_end_or_in_the_middle_of_a_line(hearts: Hearts, node: str) -> None:
    hearts.check(gone_for(hearts, "line", node, 50))


def test_a_wire_that_carried_one_way_only_leaves_nothing_behind(hearts: Hearts) -> None:
    """One end of an edge went on with it, the other without: they count the same again, or come to another solution."""
    agents = hearts.agents("line")
    wires = Wires(agents)
    wires.run(lambda: agents["b"].number >= 2)
    wires.lost = ("b", "c")
    wires.run(lambda: agents["c"].number >= 100)
    wires.lost = ("", "")
    wires.run(lambda: False)
    hearts.check(agents)


def test_a_node_that_lost_its_middle_waits_for_it(hearts: Hearts) -> None:
    agents = hearts.agents("star", 60)
    wires = Wires(agents)
    wires.run(lambda: agents["a"].number >= 30)
    wires.away = "a"
    wires.waiting = [each for each in wires.waiting if "a" not in each[:2]]
    for _ in range(50):
        for name in "bcd":
            wires.post(name, agents[name].silent())
        while wires.waiting:
            _, receiver, _ = wires.waiting.pop(0)
            assert receiver == "a", "nobody else is its neighbour"
    assert max(agents[name].number for name in "bcd") <= 31, "nothing but its own rows would count"
    wires.away = ""
    wires.run(lambda: False)
    assert all(agent.done and not agent.missed for agent in agents.values())


def test_a_node_goes_on_from_what_it_kept_when_it_was_killed(hearts: Hearts) -> None:
    agents = hearts.agents("ring")
    setting, neighbours = hearts.setting("ring")
    wires = Wires(agents)
    wires.run(lambda: agents["b"].number >= 150)
    kept = agents["b"].saved()
    wires.run(lambda: agents["b"].number >= 170)  # what came after is lost with the process
    agents["b"] = CpdsAgent(hearts.rows["b"], setting, neighbours("b"), kept)
    assert agents["b"].number == 150
    wires.post("b", agents["b"].begin())
    wires.run(lambda: False)
    hearts.check(agents)


def test_what_was_kept_of_other_rows_is_refused(hearts: Hearts) -> None:
    agents = hearts.agents("ring", 10)
    setting, neighbours = hearts.setting("ring", 10)
    with pytest.raises(WireError, match="other records"):
        CpdsAgent(hearts.rows["a"], setting, neighbours("a"), agents["b"].saved())


def content_of(number: int, terms: int, said: float = 0.0, summed: float = 0.0) -> bytes:
    return struct.pack("<I", number) + np.concatenate([np.full(terms, said), np.full(terms, summed)]).tobytes()


LIES: Dict[str, Callable[[int], bytes]] = {
    "no number": lambda terms: content_of(1, terms, np.nan),
    "infinite": lambda terms: content_of(1, terms, summed=np.inf),
    "huge": lambda terms: content_of(1, terms, 301.0),
    "multipliers beyond what so few can be": lambda terms: content_of(2, terms, 0.0, 601.0),
    "iteration 0": lambda terms: content_of(0, terms),
    "beyond the end": lambda terms: content_of(21, terms),
    "short": lambda terms: content_of(1, terms)[:-8],
    "long": lambda terms: content_of(1, terms) + bytes(8),
    "empty": lambda terms: b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_message_that_cannot_be_right_is_refused_and_changes_nothing(hearts: Hearts, lie: str) -> None:
    agents = hearts.agents("complete", 20)
    agent = agents["a"]
    agent.begin()
    before = agent.saved()
    with pytest.raises(ValueError, match="iteration|bytes|iterate"):
        agent.take("b", LIES[lie](len(hearts.weights)))
    assert agent.saved() == before
    for name in "bcd":
        agent.take(name, content_of(1, len(hearts.weights)))
    assert agent.number == 2, "it goes on with what is right"


def test_late_and_repeated_messages_change_nothing(hearts: Hearts) -> None:
    agents = hearts.agents("line", 20)
    agent = agents["a"]
    agent.begin()
    said = content_of(5, len(hearts.weights), 0.5, 2.0)
    assert agent.take("b", said)
    before = agent.saved()
    assert agent.take("b", said) == []
    assert agent.saved() == before
    assert [receiver for receiver, _ in agent.take("b", content_of(3, len(hearts.weights), 1.0, 3.0))] == ["b"]
    assert agent.saved() == before


def test_a_neighbour_that_says_it_is_at_the_end_ends_nobodys_part_unseen(hearts: Hearts) -> None:
    agents = hearts.agents("line", 20)
    agent = agents["a"]
    agent.begin()
    agent.take("b", content_of(20, len(hearts.weights)))
    assert agent.figures()["missed"] == 18, "the result says of how many iterations there is nothing"


@pytest.mark.parametrize("kind", ["complete", "star", "ring", "line"])
def test_every_node_of_a_graph_is_reached_and_steps_are_short_enough(kind: str) -> None:
    for size in (2, 3, 5, 8):
        graph = graph_of(kind, [f"n{number}" for number in range(size)])
        assert graph.connected
        assert graph.widest <= size * (1 + 1e-12)
        for node in graph.nodes:
            assert node not in graph.neighbours(node)
            assert all(node in graph.neighbours(other) for other in graph.neighbours(node))
    assert graph_of("ring", ["x", "y"]).edges == {("x", "y")}


GRAPHS = {
    "expected 2 to 64": ("complete", ("a",), ()),
    "twice": ("ring", ("a", "b", "a"), ()),
    "did you mean 'ring'": ("rings", ("a", "b"), ()),
    "use 1 to 64 of a-z": ("ring", ("a", "B/+"), ()),
    "expected none": ("ring", ("a", "b"), (("a", "b"),)),
    "expected one at least": ("edges", ("a", "b"), ()),
    "'x' is not among the nodes": ("edges", ("a", "b"), (("a", "x"),)),
    "expected two nodes": ("edges", ("a", "b"), (("a", "a"),)),
    "not every node can be reached": ("edges", ("a", "b", "c", "d"), (("a", "b"), ("c", "d"))),
}


@pytest.mark.parametrize("said", GRAPHS)
def test_mistakes_in_a_graph_are_named(said: str) -> None:
    assert said in "\n".join(objections(*GRAPHS[said]))
    kind, nodes, edges = GRAPHS[said]
    with pytest.raises(UsageError, match=said):
        make({"kind": "svm", "outcome": "disease", "graph": kind, "nodes": nodes, "edges": edges}, SCHEMA)


def test_a_node_that_is_away_until_the_end_spoils_little(hearts: Hearts) -> None:
    """How its records pull is known from before: others go on with that, and it begins again from what they came to."""
    agents = gone_for(hearts, "complete", "a", ITERATIONS - 110)
    assert max(agent.apart() for agent in agents.values()) < 0.05
    assert hearts.worth(np.mean([agent.x for agent in agents.values()], axis=0)) < hearts.objective * 1.003
