"""FedAdagrad, FedYogi, FedAdam: the mean delta as a gradient for an adaptive step of the server.

Reddi et al. 2021, Algorithm 2, with Delta the record-weighted mean of the deltas:
m <- beta1 m + (1 - beta1) Delta; v by the variant; w <- w + learning rate * m / (sqrt(v) + tau). v starts at tau^2.
"""

from typing import Mapping, Tuple

import numpy as np

from orchestrator.rounds.strategy import OfTheMean, State, option, step


class FedAdagrad(OfTheMean):
    OPTIONS: Tuple[str, ...] = ("beta1", "tau")
    least_updates = 1

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate
        self.beta1 = option(options, "beta1", 0.0, 0.0, 0.9999)
        self.tau = option(options, "tau", 1e-3, 1e-12, 1.0)

    def move(self, weights: np.ndarray, mean: np.ndarray, state: State) -> Tuple[np.ndarray, State]:
        before = state.get("v", np.full(weights.size, self.tau**2))
        m = self.beta1 * state.get("m", np.zeros(weights.size)) + (1 - self.beta1) * mean
        v = self.second_moment(before, mean * mean)
        return step(weights, m / (np.sqrt(v) + self.tau), self.server_learning_rate), {"m": m, "v": v}

    def second_moment(self, v: np.ndarray, squared: np.ndarray) -> np.ndarray:
        return v + squared


class FedAdam(FedAdagrad):
    OPTIONS = ("beta1", "beta2", "tau")

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        super().__init__(server_learning_rate, {"beta1": 0.9, **options})
        self.beta2 = option(options, "beta2", 0.99, 0.0, 0.99999)

    def second_moment(self, v: np.ndarray, squared: np.ndarray) -> np.ndarray:
        return self.beta2 * v + (1 - self.beta2) * squared


class FedYogi(FedAdam):
    def second_moment(self, v: np.ndarray, squared: np.ndarray) -> np.ndarray:
        return v - (1 - self.beta2) * squared * np.sign(v - squared)
