"""Evaluation on the node: records that are never trained on, and the sums over them that may leave."""

import hashlib
import hmac
from typing import Tuple

import numpy as np

from orchestrator.errors import DataError
from orchestrator.node.data import Dataset
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.noise import SecureRandom
from orchestrator.wire.evaluation import SENSITIVITY, count
from orchestrator.wire.task import Task


def hold_out(dataset: Dataset, share: float, key: bytes) -> Tuple[Dataset, Dataset]:
    """(records to train on, records to evaluate on).

    A record is held out when a keyed hash of its content says so: the same record is on the same side in every run of this node,
    however many others are added, and whether it is depends on no other record, as separate accounting of the two sides needs.
    Raises DataError when one side would be empty.
    """
    if not share:
        return dataset, Dataset(dataset.x[:0], dataset.y[:0])
    limit = int(share * 2**32)
    held = np.array(
        [
            int.from_bytes(hmac.new(key, x.tobytes() + y.tobytes(), hashlib.sha256).digest()[:4], "big") < limit
            for x, y in zip(dataset.x, dataset.y)
        ],
        bool,
    )
    if held.all() or not held.any():
        raise DataError(
            f"{dataset.records} records cannot be split into some to train on and a share of {share:g} to evaluate on"
        )
    return Dataset(dataset.x[~held], dataset.y[~held]), Dataset(dataset.x[held], dataset.y[held])


def evaluate(task: Task, graph: TrainingGraph, held_out: Dataset, weights: np.ndarray) -> np.ndarray:
    """float32 sums of wire/evaluation.py over standardized records; with privacy on, noised before they are returned."""
    logits = graph.logits(weights.astype(np.float32), held_out.x).astype(np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    sums = count(held_out.y, shifted / shifted.sum(axis=1, keepdims=True), task.evaluation.bins)
    if task.privacy.on:
        sums = sums + SecureRandom().gaussian(sums.size, task.privacy.evaluation_noise_multiplier * SENSITIVITY)
    return sums.astype(np.float32)
