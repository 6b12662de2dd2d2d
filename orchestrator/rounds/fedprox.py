"""FedProx: FedAvg whose nodes are held near the round's weights.

Li et al. 2020, section 3.2: a node minimizes its loss plus mu / 2 * ||w - w_round||^2. The pull is the node's work; it depends
on no record, so it costs no privacy.
"""

from typing import Mapping

import numpy as np

from orchestrator.rounds.fedavg import FedAvg
from orchestrator.rounds.strategy import NodeHalf, option

MU = 0.01
"""Where a task does not say."""


class Held(NodeHalf):
    """mu (w - w_round), the gradient of the added term."""

    def __init__(self, options: Mapping[str, float]) -> None:
        self._mu = float(options.get("mu", MU))

    def pull(self, moved: np.ndarray) -> np.ndarray:
        return self._mu * moved


class FedProx(FedAvg):
    OPTIONS = ("mu",)
    AtNode = Held

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        super().__init__(server_learning_rate, options)
        option(options, "mu", 0.01, 0.0, 100.0)
