"""Cox's model (1972): hazard ratios with standard errors, exact on a public grid of times, with ties after Efron (1977).

In each round a record adds its weight exp(x b) at the announced coefficients b, and the weight times x and x x', to the step of
the grid in which it leaves; who was at risk before follows by adding up. So the partial likelihood, its gradient and information
are those of all records together, where the grid has a step for each time that occurs. Without noise only: sums of weights over
small sets of records at risk would drown.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, NamedTuple, Tuple

import numpy as np

from orchestrator.analyses.base import (
    Analysis,
    Cell,
    Folded,
    Result,
    State,
    Sums,
    Table,
    Total,
    as_pairs,
    from_pairs,
    other_than_zero,
)
from orchestrator.analyses.blocks import CELLS, PRODUCTS, Block, aside, places
from orchestrator.analyses.family import NO_MORE, Figures, Fit, Summed
from orchestrator.analyses.fitted import Counts, Fitted, inverse_of, result_of
from orchestrator.analyses.inputs import MOST_TERMS, Inputs, columns_of, present
from orchestrator.analyses.rounding import settled
from orchestrator.wire.bounds import count, near, not_negative, one_of, refuse
from orchestrator.wire.schema import Schema

EFRON, BRESLOW = "efron", "breslow"
MOST_STEPS = 10_000
_PART = 1 << 20
_NEVER = -1e30
_FARTHEST = 300.0
"""Of a linear predictor from the largest there can be: exp of less is nothing."""


@dataclass(frozen=True)
class CoxOptions:
    """Of kind "cox". Without noise only."""

    time: str  # column with the time to the event, or until which a record was in view: a number without transform [a column]
    event: str  # column that says which: two categories, the second is the event [a column]
    inputs: Tuple[str, ...] = ()  # columns the hazard is explained by; left out: all others [columns]
    steps: int = (
        50  # of equal width over the range of time; a time on the edge of one is in the one it begins [1 to 10000]
    )
    ties: str = EFRON  # what events in the same step count as [efron, breslow]
    rounds: int = 25  # at most [1 to 1000]
    tolerance: float = 1e-9  # it ends when no coefficient moves further, in units of half a range [0 or more]

    def __post_init__(self) -> None:
        wrong = [*count("steps", self.steps, 1, MOST_STEPS), *one_of("ties", self.ties, (EFRON, BRESLOW))]
        wrong += [*count("rounds", self.rounds, 1, 1000), *count("inputs", len(self.inputs), 0, MOST_TERMS)]
        refuse([*wrong, *not_negative("tolerance", self.tolerance)])


class _Hazard(Fit):
    """How tables of a fitted model call what it is."""

    ratio = "hazard ratio"

    def exact_figures(self, summed: Summed) -> Figures:
        likelihood = float(summed.cells[0])
        return [("log-likelihood", likelihood), ("AIC", 2 * summed.estimated - 2 * likelihood)]


class _Sums(NamedTuple):
    """Of a round, by step of the grid: of events and of all who leave, weights (steps,), weights times x (steps, p) and x x'
    (steps, p, p); seen: events (steps,); the sum of x over events (p,); records used, and left out.
    """

    events: Tuple[np.ndarray, np.ndarray, np.ndarray]
    leave: Tuple[np.ndarray, np.ndarray, np.ndarray]
    seen: np.ndarray
    explained: np.ndarray
    known: float
    left_out: float


def _over_ties(weight: float, own: float, tied: int, ties: str) -> Tuple[float, np.ndarray, np.ndarray]:
    """With w = weight - s own, over the shares s of `tied` events of a step: the sum of log w; of 1/w and s/w; of 1/w^2, s/w^2
    and s^2/w^2. ValueError where nobody is at risk.
    """
    logarithms, inverse, squared = 0.0, np.zeros(2), np.zeros(3)
    for start in range(0, tied, _PART):
        share = np.arange(start, min(tied, start + _PART)) / tied if ties == EFRON else np.zeros(1)
        many = 1 if ties == EFRON else tied
        left = weight - share * own
        if not left.min() > 0:
            raise ValueError("an event in a step in which nobody is at risk: no records add up to these sums")
        logarithms += many * float(np.log(left).sum())
        inverse += many * np.array([(share**power / left).sum() for power in range(2)])
        squared += many * np.array([(share**power / left**2).sum() for power in range(3)])
        if ties != EFRON:
            break
    return logarithms, inverse, squared


class Cox(Analysis):
    """The vector: by step of the grid, of events and then of others, weight, weight x, upper triangle of weight x x'; by step
    whether it is an event; x where it is; 1 for a record that is used, 1 for one that is left out.

    Announced are the coefficients, those before, and the log partial likelihood there (`as_pairs`).
    """

    Options = CoxOptions

    def __init__(self, schema: Schema, options: CoxOptions) -> None:
        self._by_name = {feature.name: feature for feature in schema.features}
        self._inputs = Inputs(schema, options.inputs, (options.time, options.event), intercept=False)
        self._upper = np.triu_indices(min(len(self._inputs.terms), MOST_TERMS))
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """The columns are there, and of the kinds they need to be."""
        for option, name in (("time", self.options.time), ("event", self.options.event)):
            feature = self._by_name.get(name)
            if feature is None:
                yield f"{option}: no column {name!r} in the schema{near(name, self._by_name)}"
            elif option == "time" and (feature.categories or feature.transform):
                yield f"time: {name!r}; it is a number without transform"
            elif option == "event" and len(feature.categories) != 2:
                yield f"event: {name!r}; it is a column with two categories, of which the second is the event"
        if self.options.time == self.options.event:
            yield "time and event are different columns"
        yield from self._inputs.objections()

    def objection_to(self, noisy: bool) -> str:
        """Sets of records at risk are small."""
        return "noise would leave nothing of this analysis" if noisy else ""

    @property
    def rounds(self) -> int:
        """As declared."""
        return int(self.options.rounds)

    @property
    def _terms(self) -> int:
        return len(self._inputs.terms)

    @property
    def _block(self) -> int:
        """Values of a step's weight, weight x, and triangle."""
        return 1 + self._terms + len(self._upper[0])

    @property
    def sums(self) -> Sums:
        """A record is in one step; with q the longest square of its inputs: 1, q, (q^2 + q) / 2; then 1, q and 1."""
        squared = self._inputs.squared
        size = self.options.steps * (2 * self._block + 1) + self._terms + 2
        return Sums(size, math.sqrt(1 + squared + (squared**2 + squared) / 2 + 1 + squared + 1))

    def begin(self, seed: int) -> np.ndarray:
        """All coefficients 0."""
        first = np.zeros(self._terms)
        return as_pairs(np.concatenate([first, first, [_NEVER]]))

    def question(self, asked: np.ndarray) -> np.ndarray:
        """The coefficients."""
        return self._announced(asked)[0]

    def scope(self, question: np.ndarray) -> np.ndarray:
        """The coefficients other than 0: sums of fewer columns are a part of those of more."""
        return other_than_zero(question)

    def _announced(self, asked: np.ndarray) -> Tuple[np.ndarray, np.ndarray, float]:
        values, terms = from_pairs(asked), self._terms
        return np.clip(values[:terms], -1e6, 1e6), np.clip(values[terms : 2 * terms], -1e6, 1e6), float(values[-1])

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        inputs, step, event, used = self._read(x)
        weight = np.exp(np.clip(inputs @ question - self._largest(question), -_FARTHEST, 0.0))
        parts = [np.ones((len(x), 1)), inputs, inputs[:, self._upper[0]] * inputs[:, self._upper[1]]]
        block = np.concatenate(parts, axis=1) * weight[:, np.newaxis]
        found, rows = np.zeros((len(x), self.sums.size)), np.arange(len(x))
        steps, width = self.options.steps, self._block
        cells = found[:, : 2 * steps * width].reshape(len(x), 2 * steps, width)
        cells[rows, np.where(event, step, steps + step)] = block
        found[rows, 2 * steps * width + step] = event
        found[:, -2 - self._terms : -2] = inputs * event[:, np.newaxis]
        found[:, -2] = 1.0
        found[~used] = 0.0
        found[~used, -1] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """All but the counts is of the model."""
        counts, size, steps = 2 * self.options.steps * self._block, self.sums.size, self.options.steps
        named = (*(feature.name for feature in self._inputs.features), self.options.event)
        products = np.concatenate([np.arange(counts), np.arange(counts + steps, size - 2)])
        return [
            Block("sums over steps", PRODUCTS, products, named, parameters=self._terms),
            Block(
                "events by step", CELLS, places(counts, steps), (self.options.time, self.options.event), ordered=True
            ),
            Block("records used", CELLS, places(size - 2, 1)),
            aside("left out", size - 1),
        ]

    def _largest(self, coefficients: np.ndarray) -> float:
        """The largest linear predictor a record can have: weights are divided by exp of it, which changes no share."""
        return float(np.abs(coefficients).sum())

    def _read(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(inputs (n, terms), step of the grid (n,), whether it is an event (n,), which records lack nothing)."""
        inputs, used = self._inputs.read(x)
        columns = columns_of(x, self.schema)
        times, events = columns[self.options.time], columns[self.options.event]
        used &= present(times, self._by_name[self.options.time]) & present(events, self._by_name[self.options.event])
        raw = x[:, self._column(self.options.time)]
        step = np.searchsorted(self._edges, np.where(used, raw, 0.0), side="right") - 1
        return (
            np.where(used[:, np.newaxis], inputs, 0.0),
            np.clip(step, 0, self.options.steps - 1),
            events[:, 1] > 0.5,
            used,
        )

    def _column(self, name: str) -> int:
        column = 0
        for feature in self.schema.features:
            if feature.name == name:
                break
            column += feature.width
        return column

    @property
    def _edges(self) -> np.ndarray:
        return np.linspace(*self._by_name[self.options.time].range, self.options.steps + 1)

    def _split(self, values: np.ndarray) -> _Sums:
        steps, width, terms = self.options.steps, self._block, self._terms
        cells = values[: 2 * steps * width].reshape(2, steps, width)
        events, others = (self._moments(each) for each in cells)
        leave = tuple(one + other for one, other in zip(events, others))
        count_at = values[2 * steps * width : 2 * steps * width + steps]
        return _Sums(events, leave, count_at, values[-2 - terms : -2], float(values[-2]), float(values[-1]))

    def _moments(self, cells: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        terms = self._terms
        full = np.zeros((len(cells), terms, terms))
        full[:, self._upper[0], self._upper[1]] = full[:, self._upper[1], self._upper[0]] = cells[:, 1 + terms :]
        return cells[:, 0], cells[:, 1 : 1 + terms], full

    def _likelihood(self, coefficients: np.ndarray, sums: _Sums) -> Tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """(log partial likelihood, gradient, information, hazard of each step at weight 1) at the announced coefficients."""
        risk = tuple(each[::-1].cumsum(axis=0)[::-1] for each in sums.leave)
        likelihood = float(coefficients @ sums.explained)
        gradient, information = sums.explained.copy(), np.zeros((self._terms, self._terms))
        hazard, squares = np.zeros(self.options.steps), np.zeros(self._terms)
        shift = self._largest(coefficients)
        for step in np.flatnonzero(sums.seen > 0.5):
            weight, first, second = (of[step] for of in risk)
            own, own_first, own_second = (of[step] for of in sums.events)
            tied = round(sums.seen[step])
            logarithms, inverse, squared = _over_ties(float(weight), float(own), tied, self.options.ties)
            likelihood -= logarithms + tied * shift
            gradient -= first * inverse[0] - own_first * inverse[1]
            squares += np.diag(second) * inverse[0]
            information += second * inverse[0] - own_second * inverse[1]
            crossed = np.outer(first, own_first)
            information -= np.outer(first, first) * squared[0] - (crossed + crossed.T) * squared[1]
            information -= np.outer(own_first, own_first) * squared[2]
            hazard[step] += inverse[0] / math.exp(min(shift, 700.0))
        alike = settled(np.diag(information), squares, sums.known) == 0  # all that are at risk with an event
        information[alike] = information[:, alike] = 0.0
        return likelihood, gradient, information, hazard

    def over_others(self, asked: np.ndarray) -> np.ndarray:
        """Without the best likelihood: of fewer records it is larger wherever the coefficients lead."""
        now, before, _ = self._announced(asked)
        return as_pairs(np.concatenate([now, before, [_NEVER]]))

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """A step of Newton's method; after one to a smaller likelihood half of it instead."""
        now, before, best = self._announced(asked)
        likelihood, gradient, information, hazard = self._likelihood(now, self._split(total.values))
        worse = likelihood < best - 1e-9 * abs(best) and np.abs(now - before).max() > 0
        step = now - before if worse else inverse_of(information, 0.0)[0] @ gradient
        moved = float(np.abs(step).max())
        state = {
            "coefficients": now if worse else now + step,
            "step": step,
            "matrix": information.ravel(),
            "gradient": gradient,
        }
        state.update(likelihood=np.array([likelihood]), hazard=hazard, counts=total.values[-2:])
        state["events"] = np.array([self._split(total.values).seen.sum()])
        if worse:
            return as_pairs(np.concatenate([(now + before) / 2, before, [best]])), Folded(state, {"halved": 1.0})
        figures = {"step": moved, "log-likelihood": likelihood}
        announced = as_pairs(np.concatenate([now + step, now, [likelihood]]))
        return announced, Folded(state, figures, moved <= self.options.tolerance)

    def result(self, state: State, units: str) -> Result:
        """Tables "coefficients", "fit" and "baseline"."""
        terms, matrix = self._inputs.terms, state["matrix"].reshape(self._terms, self._terms)
        known, left_out = map(float, state["counts"])
        summed = Summed(state["coefficients"], NO_MORE, state["gradient"], state["likelihood"], known, known)
        summed = summed._replace(hidden=inverse_of(matrix, 0.0)[1].shape[1])
        counts: Counts = [(f"{units} used", known), (f"{units} left out", left_out)]
        hazard = _Hazard(self._by_name[self.options.event])
        found = result_of(Fitted(summed, state["step"], matrix), hazard, terms, counts, float(self.options.tolerance))
        found.tables[1].rows.insert(2, ("events", round(float(state["events"][0]))))
        return Result([*found.tables, self._baseline(state["hazard"])], [*found.notes, *self._notes()])

    def _baseline(self, hazard: np.ndarray) -> Table:
        """Of a record with all numbers in the middle of their ranges and all categories at their first level."""
        summed, rows = np.cumsum(hazard), []
        for step in np.flatnonzero(hazard):
            rows.append((float(self._edges[step]), float(summed[step]), math.exp(-float(summed[step]))))
        cells: List[Tuple[Cell, ...]] = list(rows)
        return Table("baseline", (self.options.time, "cumulative hazard", "survival"), cells, "survival")

    def _notes(self) -> Iterator[str]:
        low, high = self._by_name[self.options.time].range
        width = (high - low) / self.options.steps
        yield f"times are counted in steps of {width:.4g}; ties after {self.options.ties.capitalize()}"
        yield "the baseline is of numbers in the middle of their ranges, and of first levels"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is explained by what."""
        names = [quoted(feature.name) for feature in self._inputs.features[:5]]
        more = f" and {len(self._inputs.features) - 5} more" if len(self._inputs.features) > 5 else ""
        return [
            f"Cox model: {quoted(self.options.time)} until {quoted(self.options.event)} in {self.options.steps} steps, with "
            f"{self._terms} coefficients",
            f"explained by {', '.join(names)}{more}",
        ]
