"""Evaluation on the node: records that are never trained on, and the sums over them that may leave."""

import hashlib
import hmac
from functools import lru_cache
from typing import Iterable, Iterator, Optional, Tuple

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.errors import DataError
from orchestrator.node.pace import Work, tried
from orchestrator.node.runtime import TrainingGraph
from orchestrator.node.units import rows_of_units
from orchestrator.privacy.noisy_sum import NoisyCounts, evaluation_counts
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.plain import many
from orchestrator.wire.targets.base import Target
from orchestrator.wire.task import Task


def hold_out(dataset: Dataset, share: float, key: bytes) -> Tuple[Dataset, Dataset]:
    """(records to train on, records to evaluate on).

    A record is held out when a keyed hash of its content says so; where the schema names patients, of whose it is: all of a
    patient's are on one side. So the same one is on the same side in every run of this node, and whether it is depends on no
    other record, as separate accounting of the two sides needs. Raises DataError when one side would be empty.
    """
    if not share:
        return dataset, dataset.take(np.zeros(dataset.records, bool))
    limit = int(share * 2**32)

    def drawn(content: bytes) -> bool:
        return int.from_bytes(hmac.new(key, content, hashlib.sha256).digest()[:4], "big") < limit

    if dataset.patients is None:
        contents = (dataset.x[i].tobytes() + dataset.y[i].tobytes() for i in range(dataset.records))
        held = np.fromiter((drawn(content) for content in contents), bool, dataset.records)
    else:
        whose, each = np.unique(dataset.patients, return_inverse=True)
        held = np.array([drawn(b"patient" + int(one).to_bytes(8, "big", signed=True)) for one in whose])[each]
    if held.all() or not held.any():
        raise DataError(
            f"{many(dataset.records, 'record')} cannot be split into some to train on and a share of {share:g} to evaluate on: "
            "those of one patient, or else equal ones, are kept together"
        )
    return dataset.take(~held), dataset.take(held)


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
    counts, units = evaluation_counts(task), rows_of_units(task, held_out)
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
