"""What the gateway shows of an exchange between nodes: who sent whom how many messages, how large, and how far each node came.

It carries none of the messages and opens none. These are figures that nodes say of themselves with their answers.
"""

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from orchestrator.analyses.agents import EXCHANGE, PeerAnalysis
from orchestrator.analyses.base import Cell, Result, State, Table
from orchestrator.analyses.peer_graph import PeerGraph
from orchestrator.analyses.registry import exchange_of
from orchestrator.wire.plain import many
from orchestrator.wire.task import Task

FIGURES = "exchange"
TRAFFIC = "traffic"
"""Of the vectors of a run: (nodes, 3), and (nodes, nodes, 4) from one to another, in the order of the graph's nodes."""

_FIGURES = ("iterations", "missed", "apart_millionths")
_EACH = 4  # messages sent, their bytes, received, refused
_MOST = 10**15
_UNKNOWN = -1.0


def needs_log(task: Task) -> bool:
    """Whether nodes have to see whom the authority certified: those they are in sums with, or send messages."""
    return task.aggregation.secure or exchange_of(task) is not None


def named_in(task: Task) -> Tuple[str, ...]:
    """Who has a part in a task that names its nodes; () where any node may."""
    exchange, holder = exchange_of(task), task.aggregation.key_holder
    return () if exchange is None else (*exchange.graph.nodes, *([holder] if holder else []))


def exchanged_of(graph: PeerGraph, headers: Mapping[str, Mapping[str, Any]]) -> State:
    """From the answers of an exchange's round, by node; what one says that makes no sense counts as not said."""
    at = {node: place for place, node in enumerate(graph.nodes)}
    figures = np.full((len(at), len(_FIGURES)), _UNKNOWN)
    traffic = np.full((len(at), len(at), _EACH), _UNKNOWN)
    for node, header in headers.items():
        said = header.get(EXCHANGE)
        if node not in at or not isinstance(said, dict):
            continue
        found = [said.get(name) for name in _FIGURES]
        if all(map(_counts, found)):
            figures[at[node]] = found
        each: Any = said.get("neighbours")
        for other in graph.neighbours(node) if isinstance(each, dict) else ():
            row = each.get(other)
            if isinstance(row, list) and len(row) == _EACH and all(map(_counts, row)):
                traffic[at[node], at[other]] = row
    return {FIGURES: figures.ravel(), TRAFFIC: traffic.ravel()}


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def with_exchange(analysis: PeerAnalysis, result: Result, figures: np.ndarray, traffic: np.ndarray) -> Result:
    """The result with tables "nodes" and "messages", and what they say that people must know."""
    graph = analysis.exchange.graph
    figures = figures.reshape(len(graph.nodes), len(_FIGURES))
    traffic = traffic.reshape(len(graph.nodes), len(graph.nodes), _EACH)
    nodes: List[Tuple[Cell, ...]] = []
    for node, (iterations, missed, apart) in zip(graph.nodes, figures):
        there = iterations != _UNKNOWN
        neighbours = len(graph.neighbours(node))
        nodes.append((node, neighbours, *((int(iterations), int(missed), apart / 1e6) if there else (None,) * 3)))
    messages: List[Tuple[Cell, ...]] = []
    for at, node in enumerate(graph.nodes):
        for other in graph.neighbours(node):
            to = graph.nodes.index(other)
            (sent, size), (received, refused) = traffic[at, to, :2], traffic[to, at, 2:]
            messages.append((node, other, _cell(sent), _cell(size), _cell(received), _cell(refused)))
    tables = [
        Table("nodes", ("node", "neighbours", "iterations", "missed", "apart from neighbours"), nodes),
        Table("messages", ("from", "to", "sent", "bytes", "received", "refused"), messages),
    ]
    return Result([*result.tables, *tables], [*result.notes, *_notes(graph, figures, traffic)])


def _notes(graph: PeerGraph, figures: np.ndarray, traffic: np.ndarray) -> Iterator[str]:
    yield "messages between nodes are sealed, and carry no noise: a neighbour learned each iterate of its neighbours"
    gone = [f"{node} ({int(missed)})" for node, (_, missed, _) in zip(graph.nodes, figures) if missed > 0]
    if gone:
        yield f"iterations in which a node was away, and its neighbours went on with what it last said: {', '.join(gone)}"
    refused = traffic[:, :, 3]
    for at, to in zip(*np.nonzero(refused > 0)):
        yield f"{graph.nodes[at]} refused {many(int(refused[at, to]), 'message')} in the name of {graph.nodes[to]}"


def _cell(value: float) -> Optional[int]:
    return None if value == _UNKNOWN else int(value)


def taken_from(state: State) -> Dict[str, np.ndarray]:
    """Removes these from a run's vectors; {} where there was no exchange."""
    return {name: state.pop(name) for name in (FIGURES, TRAFFIC) if name in state}
