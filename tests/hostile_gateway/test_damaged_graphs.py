"""Attack: hundreds of damaged graphs, one task after another. Promise: each is declined or run, the node lives, serves honest
graphs as before, and takes no more memory than it says. benchmarks/damaged_graphs.py does it with 20,000."""

import pytest
from damaged import Watch, computes, declarations, put_before, table
from graph_mutants import KINDS, mutant
from graph_samples import softmax_regression
from inside import csv_of
from malicious import Attack, Victim

FEATURES, MUTANTS = 12, 216
GRAPHS = [softmax_regression(FEATURES, 2, 8), softmax_regression(FEATURES, 2, 4)]
TASKS = declarations(FEATURES)
MOST_MIB = 100.0


@pytest.fixture(scope="module")
def open_node(victim: Victim) -> Attack:
    return victim(csv_of([*(f"x{i}" for i in range(FEATURES)), "y"], table(FEATURES)))


def served(attack: Attack, run: str) -> bool:
    words = [put_before(attack, f"{run}-{i}", TASKS[i], graph) for i, graph in enumerate(GRAPHS)]
    return all(tuple(word) == ("ready", "update") for word in words)


def test_a_node_outlives_hundreds_of_damaged_graphs(open_node: Attack) -> None:
    pytest.importorskip("ai_edge_litert.schema_py_generated", reason="mutants that are sound files need its object API")
    assert open_node.node.process is not None
    honest, seen = {computes(graph) for graph in GRAPHS}, set()
    with Watch(open_node.node.process.pid) as watch:
        assert served(open_node, "before")
        for number in range(MUTANTS):
            kind, graph = mutant(number, GRAPHS)
            digest = computes(graph)
            if digest in honest:
                continue  # the runtime gets the same file as for the honest one
            word = put_before(open_node, f"m{number}", TASKS[number % 2], graph)
            seen.add((kind, word.verdict))
            assert word.verdict == "graph" or (digest and word.answer in ("update", "graph")), (number, kind, word)
        assert served(open_node, "after")
    assert open_node.node.alive
    assert {kind for kind, _ in seen} == set(KINDS)
    assert ("exchanged operators", "ready") in seen, "some get as far as the node's rows"
    assert watch.peak_mib < MOST_MIB
    assert watch.most <= 1, "the process of one run ends before another graph is tried"
