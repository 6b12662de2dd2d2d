"""An analysis attacked: many runs of it in this process, by the nodes' own code, each with one unit more in it or not.

In each run that unit, the canary, is in one node's data with probability 1/2. Its vector points where that of the longest record
found does, and is a thousand times as long, so that only clipping bounds it. The attacker knows all other data and every
announced question, takes their part off what each round released, and looks at what is left in the canary's direction. Runs are
independent, so their canaries may be thrown together like those of one training (one_run.py).
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple
from unittest.mock import patch

import numpy as np

import orchestrator.node.summed as summed
from orchestrator.analyses.base import Analysis, Total
from orchestrator.analyses.registry import analysis_of
from orchestrator.audit.bench import Bench, Rows
from orchestrator.audit.canaries import clipped_to
from orchestrator.audit.measured import Measured
from orchestrator.audit.training import Progress
from orchestrator.data.dataset import Dataset
from orchestrator.errors import UsageError
from orchestrator.node.contribution import Contributor
from orchestrator.node.run import Run
from orchestrator.node.store import NodeStore
from orchestrator.node.trainer import GradientTrainer
from orchestrator.privacy.lattice import party_variance
from orchestrator.privacy.noisy_sum import analysis_sum
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.terms import unit_of
from orchestrator.privacy.vector_layout import Layout, bits_for, parts_of
from orchestrator.rounds.stages import ANALYSIS
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Task

_LENGTH = 1000.0
"""Of a canary's vector, in those of its record."""
_CROWD = 12
"""Units of each node that are in every run: what is known of them is subtracted, so that more would only take longer."""
_RECORDS = 3
"""Of a patient that is a canary."""
_CANDIDATES, _INVENTED = 2000, 64
"""Records of each node, and records at the ends of all ranges, of which the one with the longest vector becomes the canary."""


class _Marked:
    """An analysis in which one record's vectors are longer than any may be. row: (inputs,), as in Dataset.x."""

    def __init__(self, analysis: Analysis, row: np.ndarray) -> None:
        self._analysis, self._row = analysis, row

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        found = self._analysis.vectors(question, x)
        found[_same(x, self._row)] *= _LENGTH
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._analysis, name)


class PlayingAnalysis:
    """Nodes of one task with an analysis, for one run after another."""

    def __init__(
        self, task: Task, datasets: Dict[str, Dataset], progress: Progress, scored: Callable[[Dataset], Dataset]
    ) -> None:
        """`datasets`: by node, scored already; of noise "node" the first one answers, of shared noise all do. scored: adds their
        scores to records. UsageError without a claim.
        """
        if not task.privacy.on:
            raise UsageError(
                "the task claims no privacy (unit 'none'): its sums are exact, and there is nothing to attack"
            )
        self.task, self._progress = task, progress
        self.analysis = analysis_of(task)
        parts = list(datasets.values())[: task.aggregation.honest if task.privacy.distributed else 1]
        invented = (
            [scored(_at_the_ends(task.schema))] if task.schema.features else []
        )  # signals have no columns to draw from
        self.row = _longest(self.analysis, [*datasets.values(), *invented])
        self._crowds = [_crowd(part, unit_of(task.privacy), self.row) for part in parts]
        self._sum = analysis_sum(task)
        variance = len(parts) * party_variance(self._sum.mechanism, self._sum.std)
        self._deviation = float(np.sqrt(variance)) * self._sum.lattice.step

    @property
    def parameters(self) -> int:
        """Values of a vector."""
        return self.analysis.sums.size

    @property
    def fewest(self) -> int:
        """Units of the smallest node, as they are played."""
        return min(len(_units(crowd, unit_of(self.task.privacy))) for crowd in self._crowds)

    def attack(self, count: int, measured: Measured) -> Tuple[np.ndarray, np.ndarray]:
        """(scores, included), float and bool (count,), of so many runs, each with its canary."""
        included = np.random.default_rng().random(count) < 0.5
        scores = np.zeros(count)
        marked = _Marked(self.analysis, self.row)
        with tempfile.TemporaryDirectory(prefix="edgeward-audit-") as folder:
            store = NodeStore(Path(folder) / "node.sqlite")
            runs = {
                inside: [self._run(place, inside) for place in range(len(self._crowds))] for inside in (False, True)
            }
            try:
                with patch.object(summed, "analysis_of", lambda task: marked):
                    for number, inside in enumerate(included):
                        if number % 10 == 0:
                            self._progress("runs with and without a canary", number, count)
                        scores[number] = self._score(runs[bool(inside)], store, bool(inside), measured)
            finally:
                store.close()
        return scores, included

    def _run(self, place: int, inside: bool) -> Run:
        """Of one node; the first one has the canary. It states as many units whether it does or not."""
        crowd = self._crowds[place]
        dataset = _joined(crowd, self._canary) if inside and place == 0 else crowd
        run = Run("audit", "", self.task, b"", dataset, dataset.take(np.empty(0, np.int64)))
        run.state(len(crowd.units(unit_of(self.task.privacy))) + 1)
        return run

    @property
    def _canary(self) -> Dataset:
        records = _RECORDS if self.task.privacy.of_patients else 1
        owner = np.full(records, 1 << 30, np.int64) if self.task.schema.patient else None
        return Dataset(np.tile(self.row, (records, 1)), np.full(records, -1, np.int32), owner)

    def _score(self, runs: List[Run], store: NodeStore, inside: bool, measured: Measured) -> float:
        """How far the run's sums lie in the canary's direction, in clip norms, less where the middle would be."""
        task, clip_norm = self.task, self.task.privacy.clip_norm
        asked, heard = self.analysis.begin(task.seed), []
        for number in range(1, self.analysis.rounds + 1):
            released = np.sum([self._release(run, store, number, asked) for run in runs], axis=0)
            known, canary = self._known(asked)
            left = released - known
            own = float(left @ canary) / clip_norm**2
            heard.append(own)
            measured.noise(left - inside * canary, work_of(task).noise_multiplier * clip_norm)
            if inside:
                measured.shift(np.array([own]))
            asked, folded = self.analysis.fold(asked, Total(released, self._deviation))
            if folded.done:
                break
        return (sum(heard) - len(heard) / 2) / float(np.sqrt(len(heard)))

    def _release(self, run: Run, store: NodeStore, number: int, asked: np.ndarray) -> np.ndarray:
        """float64 (size,): what a node's own code gives away in a round."""
        contributor = Contributor(run, store, "node", GradientTrainer)
        layout = _layout(self.task, number, self.parameters, run.stated) if self.task.privacy.distributed else None
        answer = contributor.contribute(number, {}, {"weights": asked}, layout)
        return self._sum.to_float(answer.parts[ANALYSIS])

    def _known(self, asked: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(what all other units add, what the canary would), float64 (size,) each, by the declaration alone."""
        analysis, question, clip_norm = self.analysis, self.analysis.question(asked), self.task.privacy.clip_norm
        known = np.zeros(self.parameters)
        for crowd in self._crowds:
            vectors = analysis.vectors(question, crowd.x)
            for rows in _units(crowd, unit_of(self.task.privacy)):
                known += clipped_to(vectors[rows].mean(axis=0), clip_norm)
        canary = _LENGTH * analysis.vectors(question, self.row[np.newaxis])[0]
        return known, clipped_to(canary, clip_norm)


class AnalysisBench(Bench):
    """Nodes of a task with an analysis on records whose vectors are chosen. Of bench.py's plays it has `sums`."""

    def changed(self, **privacy: Any) -> "AnalysisBench":
        return AnalysisBench(replace(self.task, privacy=replace(self.task.privacy, **privacy)), self.store)

    def sums(self, rows: Rows, rounds: int, local_steps: int = 1) -> np.ndarray:
        """float64 (rounds, P): what one node's releases say its sums were, in clip norms. gradients of `rows`: its vectors."""
        size = rows.gradients.shape[1]
        task = replace(self.task, training=replace(self.task.training, parameters=size))
        x = np.zeros((len(rows.gradients), int(np.prod(task.schema.input_shape))), np.float64)
        x[:, 0] = np.arange(len(x))
        dataset = Dataset(x, np.full(len(x), -1, np.int32), rows.patients)
        run = Run("audit", "", task, b"", dataset, dataset.take(np.empty(0, np.int64)))
        run.state(max(1, run.units))
        mechanism, found = analysis_sum(task), []
        with patch.object(summed, "analysis_of", lambda task: _Chosen(self.task, rows.gradients)):
            for _ in range(rounds):
                contributor = Contributor(run, self.store, "node", GradientTrainer)
                layout = _layout(task, 1, size, run.stated) if task.privacy.distributed else None
                asked = {"weights": np.zeros(1, np.float32)}
                steps = contributor.contribute(1, {}, asked, layout).parts[ANALYSIS]
                found.append(mechanism.to_float(steps) / task.privacy.clip_norm)
        return np.stack(found)


class _Chosen:
    """In the place of an analysis: a record's vector is the row of a table that its first number says."""

    def __init__(self, task: Task, table: np.ndarray) -> None:
        self._table = table.astype(np.float64)
        self.sums = analysis_of(task).sums._replace(size=table.shape[1])

    def begin(self, seed: int) -> np.ndarray:
        return np.zeros(1, np.float32)

    def question(self, asked: np.ndarray) -> np.ndarray:
        return asked.astype(np.float64)

    def of_patients(self, question: np.ndarray) -> bool:
        return False

    def joined(self, question: np.ndarray, summed: np.ndarray, records: int) -> np.ndarray:
        return summed / records

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._table[np.rint(x[:, 0]).astype(np.int64)]


def _layout(task: Task, number: int, size: int, units: int) -> Layout:
    """Of a secure sum in which every party states as many units as this node."""
    parts, parties = parts_of(task, number, size), task.aggregation.honest
    return Layout(parts, bits_for(parts, parties * units, parties), parties, parties * units, parties * units)


def _longest(analysis: Analysis, datasets: List[Dataset]) -> np.ndarray:
    """The record with the longest vector as the analysis begins."""
    question, found = analysis.question(analysis.begin(0)), []
    for x in (dataset.x[:_CANDIDATES] for dataset in datasets):
        lengths = np.linalg.norm(analysis.vectors(question, x.astype(np.float64)), axis=1)
        best = int(np.argmax(lengths))
        found.append((float(lengths[best]), x[best].astype(np.float64)))
    return max(found, key=lambda each: each[0])[1]


def _at_the_ends(schema: Schema) -> Dataset:
    """Records whose numbers are at either end of their ranges, and whose levels are drawn."""
    draw, columns = np.random.default_rng(0), []
    for feature in schema.features:
        if feature.categories:
            columns.append(np.eye(len(feature.categories))[draw.integers(0, len(feature.categories), _INVENTED)])
        else:
            columns.append(draw.choice(feature.scaled_range, (_INVENTED, 1)))
    return Dataset(np.concatenate(columns, axis=1), np.zeros(_INVENTED, np.int32))


def _crowd(dataset: Dataset, unit: str, canary: np.ndarray) -> Dataset:
    """The first units, without any record that equals the canary's."""
    other = ~_same(dataset.x, canary)
    units = [rows for rows in dataset.units(unit) if other[rows].all()][:_CROWD]
    if not units:
        raise UsageError("a node's data have no record but the one that would be the canary")
    chosen = dataset.take(np.concatenate(units))
    return chosen._replace(x=chosen.x.astype(np.float64))


def _units(dataset: Dataset, unit: str) -> List[np.ndarray]:
    """Rows of each unit, by whose they are: not by the code that is audited."""
    if unit != "patient" or dataset.patients is None:
        return [np.array([row]) for row in range(dataset.records)]
    return [np.flatnonzero(dataset.patients == patient) for patient in np.unique(dataset.patients)]


def _same(x: np.ndarray, row: np.ndarray) -> np.ndarray:
    """bool (n,): which records are this one, missing values included."""
    return np.asarray(((x == row) | (np.isnan(x) & np.isnan(row))).all(axis=1))


def _joined(crowd: Dataset, canary: Dataset) -> Dataset:
    patients: Optional[np.ndarray] = None
    if crowd.patients is not None and canary.patients is not None:
        patients = np.concatenate([crowd.patients, canary.patients])
    return Dataset(np.concatenate([crowd.x, canary.x]), np.concatenate([crowd.y, canary.y]), patients)
