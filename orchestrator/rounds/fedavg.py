"""FedAvg: the mean of the nodes' weight deltas after several local steps, weighted by records.

McMahan et al. 2017, Algorithm 1; with a server learning rate as in Reddi et al. 2021 (1.0 is plain FedAvg).
"""

from typing import Mapping, Tuple

from orchestrator.rounds.strategy import OfTheMean


class FedAvg(OfTheMean):
    OPTIONS: Tuple[str, ...] = ()
    least_updates = 1

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate
