"""A sparse support vector machine that nodes fit among themselves, along a graph, without a server in the loop (cpds.py).

Three rounds: how many records there are; the exchange of iterates between neighbours, of which the gateway sees what each node
came to; and what the agreed weights are worth on all records. Brisimi et al. 2018 (Int J Med Inform 112:59), the objective as
a mean:

    (1/n) sum_r max(0, 1 - l_r (b + x_r' w)) + strength |w|_1,   no weight beyond the box
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.agents import Agent, Exchange, PeerAnalysis
from orchestrator.analyses.base import (
    Cell,
    Folded,
    Result,
    State,
    Sums,
    Table,
    Total,
    as_pairs,
    from_pairs,
)
from orchestrator.analyses.blocks import CELLS, PRODUCTS, Block, aside, places, unused
from orchestrator.analyses.cpds import CHECKPOINTS, CpdsAgent, Setting
from orchestrator.analyses.inputs import MOST_TERMS, Inputs, columns_of, present, to_units
from orchestrator.analyses.peer_graph import COMPLETE, EDGES, graph_of, objections
from orchestrator.wire.bounds import count, near, refuse, within
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema

COUNTED, EXCHANGED, MEASURED = range(3)
"""What a round is of."""

NEGLIGIBLE = 1e-3
"""Of the largest weight but the intercept: what is smaller counts as 0. Iterations come ever nearer to what is 0 at the end."""

AGREED = 1e-2
"""Mean over nodes of the largest difference of a weight from a neighbour's, up to which they agree; inputs are within -1 to 1."""

MOST_ITERATIONS = 100_000
MOST_RECORDS = 1e12
_SHOWN = 3


@dataclass(frozen=True)
class SparseSvmOptions:
    """Of kind "svm"."""

    outcome: str  # column of two categories: what is predicted is the second [a column]
    # nodes that take part, as they are enrolled, and no others: in the order of a ring or line, the middle of a star first
    # [names of nodes]
    nodes: Tuple[str, ...]
    inputs: Tuple[str, ...] = ()  # columns it is predicted by; left out: all others [columns]
    strength: float = (
        0.01  # of the sum of weights' sizes, beside the mean loss; more of it leaves fewer weights [0 to 1000]
    )
    box: float = 100.0  # no weight, of inputs within -1 to 1, is larger [0.001 to 1e6]
    # which nodes send each other messages; edges: as `edges`, or the file `edges_file`, have them [complete, star, ring, line,
    # edges]
    graph: str = COMPLETE
    # of graph edges; in edgeward.toml also edges_file = "FILE", with a pair of names in each line [pairs of nodes]
    edges: Tuple[Tuple[str, ...], ...] = ()
    iterations: int = 1000  # of all nodes, each a message to each neighbour [1 to 100000]
    step: float = 5.0  # length of a primal step: longer for large weights, shorter for small ones [1e-6 to 1e6]
    patience_s: float = (
        5.0  # seconds of silence after which neighbours go on without a node until it is back [0.05 to 1e6]
    )

    def __post_init__(self) -> None:
        wrong = [*within("strength", self.strength, 0.0, 1000.0), *within("box", self.box, 1e-3, 1e6)]
        wrong += [*count("inputs", len(self.inputs), 0, MOST_TERMS), *within("step", self.step, 1e-6, 1e6)]
        wrong += [
            *count("iterations", self.iterations, 1, MOST_ITERATIONS),
            *within("patience_s", self.patience_s, 0.05, 1e6),
        ]
        refuse([*wrong, *objections(self.graph, self.nodes, self.edges)])


class _Asked(NamedTuple):
    stage: int
    records: float
    weights: np.ndarray


class SparseSvm(PeerAnalysis):
    """The vector, by round. Counted: records with the second level, with the first, left out. Exchanged: as of
    `CpdsAgent.answer`. Measured: records predicted right with the second level, with the first, left out, used, loss over the
    most there can be.

    Announced is the stage, then records and weights as `as_pairs` has them.
    """

    Options = SparseSvmOptions
    options: SparseSvmOptions

    def __init__(self, schema: Schema, options: SparseSvmOptions) -> None:
        self._outcome = next((each for each in schema.features if each.name == options.outcome), None)
        self._inputs = Inputs(schema, options.inputs, (options.outcome,), True)
        self.terms = self._inputs.terms
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The outcome has two values, and there are inputs."""
        name, known = self.options.outcome, [feature.name for feature in self.schema.features]
        if self._outcome is None:
            yield f"outcome: no column {name!r} in the schema{near(name, known)}"
        elif len(self._outcome.categories) != 2:
            yield f"outcome: {name!r}: expected a column with 2 categories"
        yield from self._inputs.objections()

    def objection_to(self, noisy: bool) -> str:
        """Messages to neighbours carry no noise."""
        return (
            "noise on what nodes send each other is not supported, so that nothing could be promised" if noisy else ""
        )

    @property
    def exchange(self) -> Exchange:
        """Weights of all terms, and as many multipliers."""
        options, setting = self.options, self._setting(1.0)
        graph = graph_of(options.graph, options.nodes, options.edges)
        what = f"its weights and what ties them to the neighbour's, {2 * len(self.terms)} numbers"
        return Exchange(graph, options.iterations, setting.terms * 2, setting.content_bytes, options.patience_s, what)

    def exchanges(self, question: np.ndarray) -> bool:
        """In the second round."""
        return bool(question[0] == EXCHANGED)

    def agent(self, question: np.ndarray, node: str, x: np.ndarray, saved: Optional[bytes] = None) -> Agent:
        """The node's part in the exchange."""
        inputs, label, used = self._read(x)
        rows = (inputs * label[:, np.newaxis])[used]
        graph = graph_of(self.options.graph, self.options.nodes, self.options.edges)
        return CpdsAgent(rows, self._setting(float(question[1])), graph.neighbours(node), saved)

    def _setting(self, records: float) -> Setting:
        options = self.options
        graph = graph_of(options.graph, options.nodes, options.edges)
        sizes = (len(self.terms), len(graph.nodes), max(1, round(records)))
        return Setting(*sizes, options.strength, options.box, options.step, options.iterations, graph.widest)

    def wrong_answer(self, answer: np.ndarray) -> str:
        """It counts as one node."""
        return super().wrong_answer(answer) or ("" if answer[0] == 1.0 else "an answer that counts as several nodes")

    @property
    def rounds(self) -> int:
        """Counted, exchanged, measured."""
        return 3

    @property
    def _most(self) -> float:
        """The largest loss of a record."""
        return 1.0 + len(self.terms) * self.options.box

    @property
    def sums(self) -> Sums:
        """A record adds 1 for being used, its inputs, and 1 at each checkpoint; in the other rounds less."""
        values = 3 * CHECKPOINTS
        return Sums(max(5, 1 + len(self.terms) + values), math.sqrt(3.0 + self._inputs.squared + values))

    def begin(self, seed: int) -> np.ndarray:
        """Nodes count their records."""
        return self._announce(COUNTED, 1.0, np.zeros(len(self.terms)))

    @staticmethod
    def _announce(stage: int, records: float, weights: np.ndarray) -> np.ndarray:
        return np.append(np.float32(stage), as_pairs(np.append(records, weights))).astype(np.float32)

    def _asked(self, asked: np.ndarray) -> _Asked:
        """Within what can be computed with whatever was announced."""
        values, box = from_pairs(asked[1:]), self.options.box
        stage = int(np.clip(np.rint(asked[0]), COUNTED, MEASURED))
        return _Asked(stage, float(np.clip(np.rint(values[0]), 1.0, MOST_RECORDS)), np.clip(values[1:], -box, box))

    def question(self, asked: np.ndarray) -> np.ndarray:
        """The stage; records, for the exchange; weights, to measure."""
        at = self._asked(asked)
        records = at.records if at.stage == EXCHANGED else 0.0
        weights = at.weights if at.stage == MEASURED else np.zeros_like(at.weights)
        return np.concatenate([[float(at.stage), records], weights])

    def _read(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs (n, terms), labels +1 or -1 (n,), and which records lack nothing; zeros where one does."""
        assert self._outcome is not None, "there is no objection to the outcome"
        inputs, used = self._inputs.read(x)
        column = columns_of(x, self.schema)[self._outcome.name]
        used = used & present(column, self._outcome)
        label = np.where(used, 2.0 * (column[:, 1] > 0.5) - 1.0, 0.0)
        return np.where(used[:, np.newaxis], inputs, 0.0), label, used

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class. Of the exchange: what a record has a part in, by which its owner's rules are kept (node/guard.py)."""
        inputs, label, used = self._read(x)
        found = np.zeros((len(x), self.sums.size))
        if question[0] == EXCHANGED:
            found[:, 0] = 1.0
            found[:, 1 : 1 + len(self.terms)] = inputs * label[:, np.newaxis]
            found[:, 1 + len(self.terms) :] = 1.0
            found[~used] = 0.0
            return found
        right = np.ones(len(x), bool)
        if question[0] == MEASURED:
            margin = label * (inputs @ question[2:])
            right = margin > 0
            found[:, 3], found[:, 4] = 1.0, np.clip(np.maximum(0.0, 1.0 - margin) / self._most, 0.0, 1.0)
        found[:, 0], found[:, 1] = right & (label > 0), right & (label < 0)
        found[~used] = 0.0
        found[:, 2] = ~used
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Weights, and what they are worth, are of the model."""
        end, terms, size = 5, len(self.terms), self.sums.size
        named = (*(feature.name for feature in self._inputs.features), self.options.outcome)
        if question[0] == EXCHANGED:
            model = Block("weights and messages", PRODUCTS, places(0, size), named, parameters=terms + 3 * CHECKPOINTS)
            return [model]
        left_out = aside("left out", 2)
        if question[0] == COUNTED:
            cells = Block("outcome", CELLS, places(0, 2), (self.options.outcome,), what="used")
            return [cells, left_out, *unused(3, size)]
        right = Block("predicted right", PRODUCTS, places(0, 2), named)
        return [right, left_out, Block("loss", PRODUCTS, places(3, 2), named), *unused(end, size)]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """Weights are the mean of what nodes came to; those next to 0 are 0."""
        at, values = self._asked(asked), total.values
        if at.stage == COUNTED:
            records = float(values[0] + values[1])
            if records < 1:
                raise ValueError("no record has an outcome and all inputs")
            announced = self._announce(EXCHANGED, records, at.weights)
            return announced, Folded({"counts": values[:3].copy()}, {"records": records})
        if at.stage == EXCHANGED:
            nodes = max(1.0, float(np.rint(values[0])))
            weights = np.clip(values[1 : 1 + len(self.terms)] / nodes, -1.0, 1.0) * self.options.box
            history = values[1 + len(self.terms) :].reshape(3, CHECKPOINTS)
            agreed = kept_weights(weights)
            apart = float(history[2, -1]) / nodes * 4 * self.options.box
            state = {
                "weights": agreed,
                "history": history.ravel(),
                "answers": np.array([nodes]),
                "of": np.array([at.records]),
            }
            return self._announce(MEASURED, at.records, agreed), Folded(state, {"apart": apart})
        return asked, Folded(
            {"measured": values[:5].copy()}, {"objective": self._objective(values, at.weights)}, done=True
        )

    def _objective(self, measured: np.ndarray, weights: np.ndarray) -> float:
        return float(measured[4]) * self._most / max(1.0, float(measured[3])) + self._penalty(weights)

    def _penalty(self, weights: np.ndarray) -> float:
        return self.options.strength * float(np.abs(weights[1:]).sum())

    def result(self, state: State, units: str) -> Result:
        """Tables "coefficients", "fit" and "progress"."""
        events, others, left_out = (float(value) for value in state["counts"])
        figures: List[Tuple[str, Optional[float]]] = [
            (f"{units} used", events + others),
            (f"{units} left out", left_out),
            (f"{units} with the outcome", events),
        ]
        if "weights" not in state:
            return Result([_fit(figures)], ["no round was left for the nodes to come to weights"])
        weights, notes = state["weights"], list(self._notes(state))
        in_columns = to_units(self.terms) @ weights
        rows: List[Tuple[Cell, ...]] = [
            (term.name, float(weight), float(in_column), "yes" if weight else "no")
            for term, weight, in_column in zip(self.terms, weights, in_columns)
        ]
        figures += [("weights other than 0", float(np.count_nonzero(weights[1:]))), ("penalty", self._penalty(weights))]
        if "measured" in state:
            measured = state["measured"]
            figures += [
                ("mean loss", self._objective(measured, weights) - self._penalty(weights)),
                ("objective", self._objective(measured, weights)),
                ("predicted right", _share(measured[0] + measured[1], measured[3])),
                ("sensitivity", _share(measured[0], events)),
                ("specificity", _share(measured[1], others)),
            ]
        heads = ("term", "weight", "in the column's units", "in the model")
        return Result([Table("coefficients", heads, rows), _fit(figures), self._progress(state)], notes)

    def _progress(self, state: State) -> Table:
        """Of the weights each node had, which are not one model before they agree."""
        (nodes,), (loss, length, apart) = state["answers"], state["history"].reshape(3, CHECKPOINTS)
        kept, box = self._setting(1.0).kept(), self.options.box
        records = float(state["of"][0])
        rows: List[Tuple[Cell, ...]] = []
        for at in np.unique(kept, return_index=True)[1]:
            hinge = float(loss[at]) * self._most / records
            penalty = self.options.strength * float(length[at]) * len(self.terms) * box / nodes
            rows.append((int(kept[at]), hinge + penalty, hinge, penalty, float(apart[at]) * 4 * box / nodes))
        return Table("progress", ("iteration", "objective", "mean loss", "penalty", "apart"), rows, "objective")

    def _notes(self, state: State) -> Iterator[str]:
        (nodes,), apart = state["answers"], state["history"].reshape(3, CHECKPOINTS)[2]
        yield "weights are for numbers over [-1, 1] of their ranges, and levels as 0 or 1; they have no standard errors"
        yield f"weights below {NEGLIGIBLE:g} of the largest count as 0"
        yield "progress is of each node's own weights at that iteration, and of records of nodes that answered"
        if nodes < len(self.options.nodes):
            yield f"{int(nodes)} of {len(self.options.nodes)} nodes answered: weights are the mean of theirs"
        distance = float(apart[-1]) * 4 * self.options.box / nodes
        if distance > AGREED:
            yield f"nodes do not agree: weights are {distance:.2g} apart in the mean; allow more iterations"
        if np.abs(state["weights"]).max(initial=0.0) >= self.options.box * (1 - 1e-6):
            yield f"a weight is at the end of the box of {self.options.box:g}"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is predicted by what, and who talks to whom."""
        features, options = self._inputs.features, self.options
        names = [quoted(feature.name) for feature in features[:_SHOWN]]
        more = f" and {len(features) - _SHOWN} more" if len(features) > _SHOWN else ""
        graph = many(len(options.edges), "edge") if options.graph == EDGES else options.graph
        return [
            f"support vector machine of {quoted(options.outcome)} with {many(len(self.terms), 'weight')}, by cPDS",
            f"predicted by {', '.join(names)}{more}",
            f"{len(options.nodes)} nodes send each other their weights, graph: {graph}, in "
            f"{many(options.iterations, 'iteration')}",
        ]


def kept_weights(weights: np.ndarray) -> np.ndarray:
    """Without those that are next to nothing."""
    least = NEGLIGIBLE * float(np.abs(weights[1:]).max(initial=0.0))
    small = np.abs(weights) < least
    small[0] = False
    return np.where(small, 0.0, weights)


def _share(part: float, whole: float) -> Optional[float]:
    """None of nobody."""
    return float(part) / float(whole) if whole > 0 else None


def _fit(figures: List[Tuple[str, Optional[float]]]) -> Table:
    rows: List[Tuple[Cell, ...]] = [
        (name, int(value) if value is not None and value.is_integer() else value) for name, value in figures
    ]
    return Table("fit", ("figure", "value"), rows)
