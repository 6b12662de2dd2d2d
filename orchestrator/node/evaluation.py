"""Evaluation on the node: the sums over records that are never trained on (data/dataset.py, `hold_out`) that may leave."""

from functools import lru_cache
from typing import Iterable, Iterator, Optional

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.pace import Work, tried
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.noisy_sum import NoisyCounts, evaluation_counts
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.targets.base import Target
from orchestrator.wire.task import Task


def evaluate(
    task: Task, graph: TrainingGraph, held_out: Dataset, weights: np.ndarray, limit: Optional[int] = None
) -> np.ndarray:
    """Sums of wire/evaluation.py over standardized records: float64 without privacy, else int64 in steps, noised.

    limit: what private sums are cut to before the noise.
    """
    run = graph.record_logits if task.privacy.within_node else graph.logits
    logits = run(weights.astype(np.float32), held_out.x).astype(np.float64)
    learned, bins = task.schema.learned, task.evaluation.bins
    answers = learned.answers(logits, held_out.y, held_out.x)
    if not task.privacy.on:
        return learned.count(held_out.y, answers, bins)
    counts, units = evaluation_counts(task), held_out.units(unit_of(task.privacy))
    return counts.release(_each(learned, held_out.y, answers, units, bins), SecureRandom(), limit)


def _each(
    learned: Target, y: np.ndarray, answers: np.ndarray, units: Iterable[np.ndarray], bins: int
) -> Iterator[np.ndarray]:
    return (learned.count(y[rows], answers[rows], bins) / len(rows) for rows in units)


def evaluation_work(task: Task) -> Work:
    """What a private evaluation takes beside inference: counting each unit's records, and drawing the noise."""
    return _evaluation_work(evaluation_counts(task), _Counted(task.schema.learned), task.evaluation.bins)


class _Counted:
    """A target by what counting its answers takes: one that measured the same is not measured again."""

    def __init__(self, learned: Target) -> None:
        self.learned = learned

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Counted) and hash(self) == hash(other)

    def __hash__(self) -> int:
        return hash((self.learned.kind, self.learned.outputs))


@lru_cache(maxsize=8)
def _evaluation_work(counts: NoisyCounts, counted: _Counted, bins: int) -> Work:
    learned, y = counted.learned, np.zeros(1, np.int32)
    answers = learned.answers(np.zeros((1, learned.outputs)), y, np.zeros((1, *learned.schema.input_shape), np.float32))

    def total(units: int) -> np.ndarray:
        return counts.total(_each(learned, y, answers, (np.array([0]) for _ in range(units)), bins))

    return tried(lambda: counts.noise(SecureRandom()), total, max(4, min(256, 100_000 // counts.size)))
