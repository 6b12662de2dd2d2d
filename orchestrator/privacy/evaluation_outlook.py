"""How much noise private federated evaluation will have, before anything runs: what `best` and `patience` can go by.

From the declaration alone. A noise multiplier that is not stated is the least that any accountant could find: a Gaussian
mechanism is (epsilon, delta)-private just when Phi(1/2s - e s) - exp(e) Phi(-1/2s - e s) <= delta (Balle and Wang 2018, th. 8).
"""

import math
from dataclasses import dataclass
from typing import Optional

from orchestrator.wire.evaluation import LOSS_BOUND, SENSITIVITY
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Evaluation, Training

Z = 1.959964


@dataclass(frozen=True)
class EvaluationOutlook:
    """records: held out in all. accuracy, loss: by how much the noise alone will move them at least (95 %).

    enough: records held out with which it moves both by no more than asked for.
    """

    records: float
    noise_multiplier: float
    accuracy: float
    loss: float
    enough: int

    def of(self, metric: str) -> Optional[float]:
        """By how much noise moves a metric; None for AUC, whose noise depends on how well scores separate the classes."""
        return {"accuracy": self.accuracy, "loss": self.loss}.get(metric)


def evaluations_of(training: Training, evaluation: Evaluation) -> int:
    return -(-training.rounds // evaluation.every)


def outlook(
    privacy: Privacy,
    training: Training,
    evaluation: Evaluation,
    aggregation: Aggregation,
    classes: int,
    nodes: int,
    records: float,
    within: float,
) -> EvaluationOutlook:
    """Of `records` held-out ones on `nodes` nodes. within: what noise may move a figure by, for `enough`."""
    releases = evaluations_of(training, evaluation) * privacy.runs
    multiplier = privacy.evaluation_noise_multiplier or least_multiplier(privacy.epsilon, privacy.delta) * math.sqrt(
        releases
    )
    shared = aggregation.honest if privacy.noise == "distributed" else 1
    std = multiplier * SENSITIVITY * math.sqrt(nodes / shared)
    cells, right = classes * classes * evaluation.bins, classes * evaluation.bins
    # Of a model that is right half of the time, and one without any loss: others have more.
    accuracy = Z * std * math.sqrt(right * 0.25 + (cells - right) * 0.25)
    loss = Z * std * LOSS_BOUND
    enough = math.ceil(max(accuracy, loss) / within)
    return EvaluationOutlook(records, multiplier, accuracy / max(records, 1.0), loss / max(records, 1.0), enough)


def most_held_out(privacy: Privacy, evaluation: Evaluation, nodes: int) -> float:
    """Records (or patients, or nodes) that can be held out at most, about: a node with 1/delta or more declines."""
    if not privacy.within_node:
        return float(nodes)
    return nodes / privacy.delta * min(1.0, evaluation.share / (1 - evaluation.share))


def least_multiplier(epsilon: float, delta: float) -> float:
    """Noise of one Gaussian release, in units of its sensitivity, below which it is not (epsilon, delta)-private."""
    low, high = 0.0, 1.0
    while _delta(high, epsilon) > delta:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(middle, epsilon) > delta else (low, middle)
    return high


def _delta(sigma: float, epsilon: float) -> float:
    first = _normal(1 / (2 * sigma) - epsilon * sigma)
    tail = _normal(-1 / (2 * sigma) - epsilon * sigma)
    return first - (math.exp(min(700.0, epsilon + math.log(tail))) if tail > 0 else 0.0)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
