"""What a node says of another node's model: a mean of bounded losses over its held-out records, noised where there is privacy.

A record's loss is the negative logarithm of what the model gives to its class, cut to `score_range`, three times what guessing
costs. A unit (a patient: the mean of its records) adds 2 loss / range - 1, within -1 and 1: around 0 a unit that comes or goes
moves the sum by half of what the loss itself would, so the noise is half as large. The sum is divided by the number of units held
out: by what the stated number and the declared share lead to expect where the real one is private.
"""

import math
from typing import Iterable

import numpy as np

from orchestrator.privacy.noisy_sum import score_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.task import Task

_DEVIATIONS = 12.0
"""Of its noise, within which a score surely is."""


def score_range(task: Task) -> float:
    """What a record's loss is cut to."""
    return 3.0 * math.log(len(task.schema.classes))


def losses(task: Task, probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (n,) of 0 to `score_range`; a record whose probabilities are no numbers costs all of it."""
    given = np.nan_to_num(probabilities[np.arange(len(y)), y], nan=0.0)
    return np.asarray(np.minimum(-np.log(np.maximum(given, 1e-30)), score_range(task)))


def expected_units(task: Task, stated: int) -> float:
    """How many units a node holds out that states so many to train on."""
    share = task.evaluation.share
    return max(1.0, stated * share / (1.0 - share))


def exact_score(task: Task, each: np.ndarray) -> float:
    """The mean loss of records, without noise."""
    return float(np.mean(each))


def noised_score(task: Task, each: np.ndarray, units: Iterable[np.ndarray], stated: int, random: SecureRandom) -> float:
    """each: losses of records; units: rows of each unit."""
    most, expected = score_range(task), expected_units(task, stated)
    within = 2.0 * each / most - 1.0
    mechanism = score_sum(task)
    released = mechanism.release((np.array([within[rows].mean()]) for rows in units), random)
    total = float(mechanism.to_float(released)[0])
    return most / 2.0 * (1.0 + total / expected)


def makes_sense(task: Task, score: float, stated: int) -> bool:
    """Whether a node that states so many units can have come to this score."""
    most = score_range(task)
    if not task.privacy.on:
        return 0.0 <= score <= most * (1 + 1e-9)
    # Those held out may be more than expected, by a factor that their number bounds.
    units = expected_units(task, stated)
    held = units + _DEVIATIONS * (math.sqrt(units) + 1.0) + _DEVIATIONS * task.privacy.count_noise
    spread = (held + _DEVIATIONS * task.privacy.score_noise_multiplier) / units
    return abs(score - most / 2.0) <= most / 2.0 * spread


def within_range(task: Task, score: float) -> float:
    """The score as it counts: noise may have carried it beyond what losses are."""
    return min(score_range(task), max(0.0, score))
