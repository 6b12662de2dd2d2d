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
from orchestrator.wire.evaluation import count
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
            f"{dataset.records} records cannot be split into some to train on and a share of {share:g} to evaluate on"
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
    probabilities = _probabilities(logits, held_out.y)
    if not task.privacy.on:
        return count(held_out.y, probabilities, task.evaluation.bins)
    counts, units = evaluation_counts(task), rows_of_units(task, held_out)
    return counts.release(_each(held_out.y, probabilities, units, task.evaluation.bins), SecureRandom(), limit)


def _each(y: np.ndarray, probabilities: np.ndarray, units: Iterable[np.ndarray], bins: int) -> Iterator[np.ndarray]:
    return (count(y[rows], probabilities[rows], bins) / len(rows) for rows in units)


def evaluation_work(task: Task) -> Work:
    """What a private evaluation takes beside inference: counting each unit's records, and drawing the noise."""
    return _evaluation_work(evaluation_counts(task), len(task.schema.classes), task.evaluation.bins)


@lru_cache(maxsize=8)
def _evaluation_work(counts: NoisyCounts, classes: int, bins: int) -> Work:
    y, probabilities = np.zeros(1, np.int32), np.full((1, classes), 1 / classes)

    def total(units: int) -> np.ndarray:
        return counts.total(_each(y, probabilities, (np.array([0]) for _ in range(units)), bins))

    return tried(lambda: counts.noise(SecureRandom()), total, max(4, min(256, 100_000 // counts.size)))


def _probabilities(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (n, classes), softmax of each row. A record whose logits are not all finite counts as surely wrong."""
    finite = np.isfinite(logits).all(axis=1)
    clean = np.where(finite[:, np.newaxis], logits, 0.0)
    shifted = np.exp(clean - clean.max(axis=1, keepdims=True))
    probabilities = np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    wrong = np.flatnonzero(~finite)
    probabilities[wrong] = 0.0
    probabilities[wrong, (y[wrong] + 1) % logits.shape[1]] = 1.0
    return probabilities
