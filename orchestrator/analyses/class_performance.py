"""How well a model file of three and more classes predicts an outcome: which class it names for records of which class.

One round. A record is counted in one cell of a crosstab of its true class and the one that the model names, apart for each group.
"""

import math
from typing import Callable, Iterator, List, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis, Folded, Result, State, Sums, Table, Total, interval
from orchestrator.analyses.blocks import CELLS, EVERYBODY, MARGINS, Block, aside, places
from orchestrator.analyses.class_figures import OF_A_CLASS, OF_ALL, confusion, of_all, of_classes, plain
from orchestrator.analyses.inputs import columns_of
from orchestrator.analyses.performance_options import (
    LATER,
    ONE_OUTCOME,
    PerformanceOptions,
    categories_of,
    objections_of_signals,
)
from orchestrator.analyses.scored_model import Scoring
from orchestrator.analyses.signals import SIGNALS
from orchestrator.wire.bounds import near
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema


class ClassPerformance(Analysis):
    """The vector: for each group a cell for each true and predicted class; in the last cell 1 where something is missing."""

    Options = PerformanceOptions
    later, of_signals = LATER, True

    def __init__(self, schema: Schema, options: PerformanceOptions) -> None:
        self._classes = categories_of(schema, options.outcome)
        self._groups = categories_of(schema, options.by) if options.by else ("all",)
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """Each output is of one category, groups are categories, and nothing is said of a single score."""
        options: PerformanceOptions = self.options
        yield from objections_of_signals(self.schema, options)
        if options.by and not self._groups and self.schema.kind != SIGNALS:
            known = [feature.name for feature in self.schema.features]
            there = options.by in known
            yield f"by: {options.by!r}: " + (
                "expected a column with some categories" if there else f"no such column{near(options.by, known)}"
            )
        if (options.score or options.coefficients) and self.schema.kind != SIGNALS:
            yield "score: either the column with the score, or coefficients of a model, or a model's file"
        if options.thresholds:
            yield "thresholds: of all classes at once the largest output decides: name an `event`, or leave them out"
        if options.model.output:
            yield "model.output: of all classes at once every output counts: name an `event`, or leave it out"
        if sorted(options.model.outputs) != list(range(len(self._classes))):
            classes = many(len(self._classes), "category", "categories")
            yield (
                f"model.outputs: expected each of 0 to {len(self._classes) - 1} once, since {options.outcome!r} has {classes}; "
                "with an `event` one output is judged"
            )
        yield from self.scored.objections()

    @property
    def scored(self) -> Scoring:
        """Its options name one."""
        return Scoring(self.options.model, self.schema, self.options.outcome)

    @property
    def rounds(self) -> int:
        """All sums are of one."""
        return 1

    @property
    def sums(self) -> Sums:
        """A record is in one cell."""
        return Sums(len(self._groups) * len(self._classes) ** 2 + 1, 1.0)

    def begin(self, seed: int) -> np.ndarray:
        """Nodes need no numbers."""
        return np.zeros(1, np.float32)

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class. Behind the inputs is the place of the category that the model names, whatever a process made of it."""
        columns = columns_of(x, self.schema)
        named, truth = x[:, -1], columns[self.options.outcome]
        groups = columns[self.options.by] if self.options.by else np.ones((len(x), 1))
        used = np.isfinite(named) & (truth.sum(axis=1) > 0.5) & (groups.sum(axis=1) > 0.5)
        k = len(self._classes)
        predicted = np.rint(np.clip(np.where(used, named, 0.0), 0, k - 1)).astype(np.int64)
        cell = (groups.argmax(axis=1) * k + truth.argmax(axis=1)) * k + predicted
        found = np.zeros((len(x), self.sums.size))
        found[np.arange(len(x)), np.where(used, cell, -1)] = 1.0
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """Crosstabs of true and predicted classes by group. The model is of the columns of its inputs, whatever it makes of them:
        what it names may follow a number, as bins do.
        """
        truth, inputs = self.scored.truth, self.scored.columns
        cells = places(0, len(self._groups), len(self._classes), len(self._classes))
        parts = [((self.options.by, level) if self.options.by else EVERYBODY, level) for level in self._groups]
        parts += [(EVERYBODY, "of all groups")] if self.options.by else []
        found: List[Block] = []
        for at, (among, group) in zip([*cells, cells], parts):
            whole = at.ndim == 3
            if not whole:
                found.append(Block(f"true and predicted classes {group}", CELLS, at, (truth, *inputs), among))
            found.append(Block(f"true classes {group}", MARGINS, np.swapaxes(at, -1, -2), (truth,), among))
            for ordered in (False, True):
                found.append(Block(f"predicted classes {group}", MARGINS, at, inputs, among, ordered=ordered))
            for place, level in enumerate(self._classes):
                row = np.atleast_2d(at[..., place, :])
                name = f"predicted classes of {self.options.outcome} = {level} {group}"
                found.append(Block(name, MARGINS, row, inputs, among, ordered=True, what=ONE_OUTCOME))
        return [*found, aside("left out", cells.size)]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The sums are the result."""
        state = {"total": total.values, "deviation": np.array([total.deviation])}
        return asked, Folded(state, {"units": float(total.values[:-1].sum())}, done=True)

    def result(self, state: State, units: str) -> Result:
        """Tables "performance", "classes" and "confusion"."""
        noise, k = float(state["deviation"][0]), len(self._classes)
        parts = state["total"][:-1].reshape(len(self._groups), k, k)
        named = list(zip(self._groups, parts, [noise] * len(parts)))
        if len(named) > 1:
            named.insert(0, ("all", parts.sum(axis=0), noise * math.sqrt(len(parts))))
        first = self.options.by or "group"
        performance = [(name, plain(part.sum()), *of_all(part, each)) for name, part, each in named]
        classes = [
            (name, level, *row)
            for name, part, each in named
            for level, row in zip(self._classes, of_classes(part, each))
        ]
        cells = [(name, *row) for name, part, _ in named for row in confusion(part, self._classes)]
        predicted = (f"predicted {level}" for level in self._classes)
        tables = [
            Table("performance", (first, units, *OF_ALL), performance, "accuracy"),
            Table("classes", (first, "class", units, "predicted", *OF_A_CLASS), classes),
            Table("confusion", (first, "class", *predicted), cells),
        ]
        return Result(tables, list(self._notes(float(state["total"][-1]), noise, units)))

    def _notes(self, missing: float, noise: float, units: str) -> Iterator[str]:
        yield "the class with the largest output is predicted, of equal ones the first; base rate: the share of the largest class"
        yield "intervals are of 95 %" + (", of chance and noise together" if noise else "")
        if missing > interval(noise):
            yield f"{missing:.6g} {units} without prediction, outcome or group were left out"
        if noise:
            yield f"each count carries noise: with 95 % it is within {interval(noise):.3g}. What that hides is left out"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is computed."""
        options: PerformanceOptions = self.options
        groups = f", by {quoted(options.by)} ({len(self._groups)})" if options.by else ""
        return [
            f"how well a model file predicts {quoted(options.outcome)}: counts by true and predicted class, of "
            f"{len(self._classes)} each{groups}",
            self.scored.words(quoted),
            "the class with its largest output leaves this node only in sums: how many records of which class are predicted as "
            "which",
        ]
