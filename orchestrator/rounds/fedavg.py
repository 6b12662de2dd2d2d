"""FedAvg: the mean of the nodes' weight deltas after several local steps, weighted by records.

McMahan et al. 2017, Algorithm 1; with a server learning rate as in Reddi et al. 2021 (1.0 is plain FedAvg).
"""

from typing import Iterable, Mapping, Tuple

import numpy as np

from orchestrator.rounds.strategy import State, Update, WeightsOnly, step, weighted_mean


class FedAvg(WeightsOnly):
    OPTIONS: Tuple[str, ...] = ()
    least_updates = 1

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        return step(weights, weighted_mean(updates, weights.size), self.server_learning_rate), state
