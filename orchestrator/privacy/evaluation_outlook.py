"""How much noise private federated evaluation will have, before anything runs: what `best` and `patience` can go by.

From the declaration alone. A noise multiplier that is not stated is the least that any accountant could find: a Gaussian
mechanism is (epsilon, delta)-private just when Phi(1/2s - e s) - exp(e) Phi(-1/2s - e s) <= delta (Balle and Wang 2018, th. 8).
"""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from orchestrator.wire.evaluation import LOSS_BOUND, SENSITIVITY
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.task import Evaluation
from orchestrator.wire.training import Training

Z = 1.959964


@dataclass(frozen=True)
class EvaluationOutlook:
    """records: held out in all. accuracy, loss: by how much the noise alone will move them at least (95 %).

    auc: about how much, of a model whose scores lie evenly and of two equally frequent classes: more where one is rare, down to
    auc_least where scores separate the classes; both None for more classes than two.
    enough: records held out with which noise moves accuracy, loss and auc by no more than asked for.
    """

    records: float
    noise_multiplier: float
    accuracy: float
    loss: float
    auc: Optional[float]
    auc_least: Optional[float]
    enough: int

    def at_least(self, metric: str) -> Optional[float]:
        """By how much noise will move a metric at least; None for one that there is not."""
        return {"accuracy": self.accuracy, "loss": self.loss, "auc": self.auc_least}.get(metric)

    def about(self, metric: str) -> Optional[float]:
        """By how much noise will move a metric, about; None for one that there is not."""
        return {"accuracy": self.accuracy, "loss": self.loss, "auc": self.auc}.get(metric)


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
    shared = aggregation.honest if privacy.distributed else 1
    std = multiplier * SENSITIVITY * math.sqrt(nodes / shared)
    cells, right = classes * classes * evaluation.bins, classes * evaluation.bins
    # Of a model that is right half of the time, and one without any loss: others have more.
    accuracy = Z * std * math.sqrt(right * 0.25 + (cells - right) * 0.25)
    loss = Z * std * LOSS_BOUND
    auc, auc_least = _of_auc(std, 2 * evaluation.bins) if classes == 2 else (None, None)
    enough = math.ceil(max(accuracy, loss, auc or 0.0) / within)
    held_out = max(records, 1.0)
    shown = [None if moved is None else moved / held_out for moved in (accuracy, loss, auc, auc_least)]
    return EvaluationOutlook(records, multiplier, shown[0] or 0.0, shown[1] or 0.0, shown[2], shown[3], enough)


def _of_auc(std: float, scores: int) -> Tuple[float, float]:
    """(about, at least), times the records: as gateway/scores._area has it, for half of them in each class and so many scores.

    Noise on a cell of a positive counts by how far the share of negatives below it is from the area; likewise of negatives. Where
    scores lie evenly that share is uniform, with variance 1/12; where they separate the classes, each class still has the cell
    its own records are in, half of which counts.
    """
    evenly, separated = scores / 12, 0.25
    return tuple(Z * std * 2 * math.sqrt(2 * each) for each in (evenly, separated))  # type: ignore[return-value]


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
