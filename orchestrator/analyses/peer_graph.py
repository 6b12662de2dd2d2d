"""Which nodes talk to which, where a round is not a sum: a graph that the task declares, and that owners see before it begins."""

from typing import FrozenSet, Iterator, NamedTuple, Sequence, Tuple

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.wire.bounds import count, near, one_of, twice
from orchestrator.wire.topics import check_name

MOST_NODES = 64

COMPLETE, STAR, RING, LINE, EDGES = "complete", "star", "ring", "line", "edges"
GRAPHS = (COMPLETE, STAR, RING, LINE, EDGES)

Pair = Tuple[str, ...]


class PeerGraph(NamedTuple):
    """nodes: in the order of a ring or line, the middle of a star first. edges: pairs of them, both ways, in order of names."""

    nodes: Tuple[str, ...]
    edges: FrozenSet[Tuple[str, str]]

    def neighbours(self, node: str) -> Tuple[str, ...]:
        """In order of names; none of a node that is not in the graph."""
        return tuple(sorted(a if b == node else b for a, b in self.edges if node in (a, b)))

    @property
    def connected(self) -> bool:
        """Whether what one node knows reaches all others."""
        reached, ahead = set(self.nodes[:1]), list(self.nodes[:1])
        while ahead:
            new = set(self.neighbours(ahead.pop())) - reached
            reached |= new
            ahead += new
        return reached == set(self.nodes)

    @property
    def widest(self) -> float:
        """The largest eigenvalue of the graph's Laplacian: at most 2 for a pair, and the number of nodes in all."""
        at = {node: place for place, node in enumerate(self.nodes)}
        laplacian = np.zeros((len(self.nodes), len(self.nodes)))
        for one, other in self.edges:
            a, b = at[one], at[other]
            laplacian[a, a] += 1
            laplacian[b, b] += 1
            laplacian[a, b] = laplacian[b, a] = -1
        return float(np.linalg.eigvalsh(laplacian)[-1])


def graph_of(kind: str, nodes: Sequence[str], edges: Sequence[Pair] = ()) -> PeerGraph:
    """Of options without `objections`."""
    following = list(zip(nodes, nodes[1:]))
    pairs = {
        COMPLETE: [(a, b) for at, a in enumerate(nodes) for b in nodes[at + 1 :]],
        STAR: [(nodes[0], other) for other in nodes[1:]],
        RING: [*following, (nodes[-1], nodes[0])],
        LINE: following,
        EDGES: [(pair[0], pair[1]) for pair in edges],
    }[kind]
    return PeerGraph(tuple(nodes), frozenset((min(pair), max(pair)) for pair in pairs))


def objections(kind: str, nodes: Sequence[str], edges: Sequence[Pair]) -> Iterator[str]:
    """Why these options say no graph in which all nodes can come to one result."""
    yield from one_of("graph", kind, GRAPHS)
    yield from count("nodes", len(nodes), 2, MOST_NODES)
    for name in nodes[:MOST_NODES]:
        try:
            check_name(name, "nodes")
        except UsageError as error:
            yield str(error)
    yield from twice("nodes", nodes)
    if bool(edges) != (kind == EDGES):
        yield f"edges: {len(edges)} of graph {kind!r}, expected {'one at least' if kind == EDGES else 'none'}"
    sound = len(edges) <= MOST_NODES * MOST_NODES
    if not sound:
        yield f"edges: {len(edges)}, at most {MOST_NODES * MOST_NODES}"
    for pair in edges if sound else ():
        strange = [name for name in pair if name not in nodes]
        if len(pair) != 2 or len(set(pair)) != 2 or strange:
            sound = False
            why = f"{strange[0]!r} is not among the nodes{near(strange[0], nodes)}" if strange else "expected two nodes"
            yield f"edges: {' '.join(pair)!r}: {why}"
    sound = sound and kind in GRAPHS and 2 <= len(set(nodes)) == len(nodes) <= MOST_NODES
    if sound and bool(edges) == (kind == EDGES) and not graph_of(kind, nodes, edges).connected:
        yield "edges: not every node can be reached from every other one"
