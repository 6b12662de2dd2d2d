"""The strategies there are, by the name a task uses."""

from typing import Dict

from orchestrator.rounds.fedavg import FedAvg
from orchestrator.rounds.fedsgd import FedSGD
from orchestrator.rounds.strategy import Strategy

STRATEGIES: Dict[str, type] = {"fedavg": FedAvg, "fedsgd": FedSGD}


def make_strategy(name: str, server_learning_rate: float) -> Strategy:
    """The strategy a task names; ValueError lists the ones there are."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r}: this version has {', '.join(sorted(STRATEGIES))}")
    strategy: Strategy = STRATEGIES[name](server_learning_rate)
    return strategy
