"""Whose rows a result is of: which nodes were in its sums, which that joined were not, and how many records that is."""

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from orchestrator.gateway.run_store import RunStore
from orchestrator.privacy.terms import counted
from orchestrator.wire.plain import many
from orchestrator.wire.task import Task

_MOST_NAMED = 20
"""Nodes, or rounds, that a note names; result.json has all."""


class Over(NamedTuple):
    """Of a finished run of an analysis."""

    nodes: Tuple[str, ...]  # in the last round that came to a sum: what is shown is of these
    missing: Dict[str, Optional[int]]  # of the others that joined: the last round that each was in, None where in none
    units: int  # what all in the last round have together, as they stated it: with privacy a noised number
    what: str  # "records" or "patients"
    exact: bool
    by_round: Dict[int, int]  # round -> nodes in it
    changed: bool  # whether not all rounds were over the same nodes

    def as_dict(self) -> Dict[str, Any]:
        """For result.json."""
        rounds = {str(number): nodes for number, nodes in self.by_round.items()}
        stated = {self.what: self.units, "stated": "exact" if self.exact else "with noise"}
        return {"nodes": list(self.nodes), **stated, "missing": dict(self.missing), "nodes_by_round": rounds}

    def notes(self) -> Iterator[str]:
        """For people, below the tables."""
        about = "" if self.exact else "about "
        of, noise = len(self.nodes) + len(self.missing), "" if self.exact else " (nodes state it with noise)"
        yield f"over {len(self.nodes):,} of {many(of, 'node')}, {about}{self.units:,} {self.what}{noise}: {_some(self.nodes)}"
        if self.missing:
            last = {n: "in no round" if at is None else f"last in round {at}" for n, at in self.missing.items()}
            yield f"not in it: {_some([f'{node} ({said})' for node, said in last.items()])}"
        if self.changed:
            counts = [f"{nodes} in round {number}" for number, nodes in self.by_round.items()]
            yield (
                f"rounds were over different nodes, {_some(counts)}: figures are of the last's; what earlier ones left, such "
                "as coefficients at which robust errors were asked, is of theirs"
            )


def over(store: RunStore, run: str, task: Task, joined: Mapping[str, int]) -> Over:
    """joined: node -> records, or privacy units, as each stated them, of all that ever joined."""
    rounds = [(int(found["round"]), tuple(found["nodes"])) for found in store.results(run) if found["nodes"]]
    latest = {node: number for number, nodes in rounds for node in nodes}
    nodes = rounds[-1][1] if rounds else ()
    missing = {node: latest.get(node) for node in sorted({*joined, *latest} - set(nodes))}
    what = counted(task.privacy)
    count = sum(joined.get(node, 0) for node in nodes)
    by_round = {number: len(each) for number, each in rounds}
    return Over(nodes, missing, count, what, not task.privacy.on, by_round, len({each for _, each in rounds}) > 1)


def nodes_before(store: RunStore, run: str, number: int) -> Optional[Tuple[str, ...]]:
    """In the newest round before this one that came to a sum; None where there is none."""
    earlier = [found for found in store.results(run) if found["round"] < number and found["nodes"]]
    return tuple(earlier[-1]["nodes"]) if earlier else None


def _some(names: Sequence[str]) -> str:
    shown: List[str] = list(names[:_MOST_NAMED])
    left = len(names) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")
