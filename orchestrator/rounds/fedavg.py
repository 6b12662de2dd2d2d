"""FedAvg: the mean of the nodes' weight deltas after several local steps, weighted by records.

McMahan et al. 2017, Algorithm 1; with a server learning rate as in Reddi et al. 2021 (1.0 is plain FedAvg).
"""

from dataclasses import dataclass
from typing import Iterable

import numpy as np

from orchestrator.rounds.strategy import Update, weighted_mean


@dataclass(frozen=True)
class FedAvg:
    server_learning_rate: float = 1.0

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update]) -> np.ndarray:
        mean = weighted_mean(updates, weights.size)
        return (weights + self.server_learning_rate * mean).astype(np.float32)
