"""FedProx: FedAvg whose nodes are held near the round's weights.

Li et al. 2020, section 3.2: a node minimizes its loss plus mu / 2 * ||w - w_round||^2. The pull is the node's work
(node/trainer.py reads the option `mu`); it depends on no record, so it costs no privacy.
"""

from typing import Mapping

from orchestrator.rounds.fedavg import FedAvg
from orchestrator.rounds.strategy import option


class FedProx(FedAvg):
    OPTIONS = ("mu",)

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        super().__init__(server_learning_rate, options)
        option(options, "mu", 0.01, 0.0, 100.0)
