"""FedBuff: a round ends with its K-th update, whichever weights that update began from (Nguyen et al. 2022, Algorithm 1).

Nobody waits for a straggler, and its work is not lost: an update that began from weights of s rounds ago counts with
1 / (1 + s)^exponent of its weight (0.5: the paper's choice), and what that leaves is not given to the others. K is the
task's quorum. Other than in the paper a node begins again with the next weights, not at once: so it
contributes at most once a round, and the accountant's number of steps holds.
"""

from typing import Iterable, Mapping, Tuple

import numpy as np

from orchestrator.rounds.strategy import State, Update, WeightsOnly, option, step, whole_option


class FedBuff(WeightsOnly):
    OPTIONS: Tuple[str, ...] = ("exponent", "max_staleness")
    least_updates = 1
    buffered = True
    takes_mean = True

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate
        self.exponent = option(options, "exponent", 0.5, 0.0, 10.0)
        self.max_staleness = whole_option(options, "max_staleness", 20, 0, 100_000)

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        total, weight_sum = np.zeros(weights.size, np.float64), 0.0
        for update in updates:
            share = update.weight / (1.0 + update.staleness) ** self.exponent
            total += share * update.delta.astype(np.float64)
            weight_sum += update.weight
        if weight_sum <= 0:
            raise ValueError("no update with a positive weight")
        return step(weights, total / weight_sum, self.server_learning_rate), state
