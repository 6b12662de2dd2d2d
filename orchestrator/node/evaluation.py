"""Evaluation on the node: records that are never trained on, and the sums over them that may leave."""

import hashlib
import hmac
from typing import Optional, Tuple

import numpy as np

from orchestrator.errors import DataError
from orchestrator.node.data import Dataset
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.lattice import clamp
from orchestrator.privacy.noise import SecureRandom
from orchestrator.privacy.noisy_sum import evaluation_counts
from orchestrator.wire.evaluation import count
from orchestrator.wire.task import Task


def hold_out(dataset: Dataset, share: float, key: bytes) -> Tuple[Dataset, Dataset]:
    """(records to train on, records to evaluate on).

    A record is held out when a keyed hash of its content says so, a patient when one of its first record does: the same one is on
    the same side in every run of this node, however many others are added, and whether it is depends on nobody else, as
    separate accounting of the two sides needs. Raises DataError when one side would be empty.
    """
    if not share:
        return dataset, dataset.take(np.zeros(dataset.records, bool))
    limit = int(share * 2**32)

    def drawn(i: int) -> bool:
        content = dataset.x[i].tobytes() + dataset.y[i].tobytes()
        return int.from_bytes(hmac.new(key, content, hashlib.sha256).digest()[:4], "big") < limit

    held = np.zeros(dataset.records, bool)
    for rows in dataset.units("record" if dataset.patients is None else "patient"):
        held[rows] = drawn(int(rows[0]))
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
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    if not task.privacy.on:
        return count(held_out.y, probabilities, task.evaluation.bins)
    counts = evaluation_counts(task)
    total = np.zeros(counts.size, np.int64)
    for rows in held_out.units(task.privacy.unit):
        # Rounded down, so that no unit counts for more than the sensitivity says.
        own = count(held_out.y[rows], probabilities[rows], task.evaluation.bins) / len(rows)
        total += np.floor(counts.scale * own).astype(np.int64)
    return (total if limit is None else clamp(total, limit)) + counts.noise(SecureRandom())
