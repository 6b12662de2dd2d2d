"""The strategies there are: a line each, with what a task, a relay and the audit have to know of one."""

from typing import Dict, NamedTuple, Tuple


class Declared(NamedTuple):
    """What is known of a strategy without importing it."""

    place: str
    """MODULE.CLASS in orchestrator.rounds."""
    of_mean: bool = False
    """It needs nothing of a round but the weighted mean of the updates: what secure sums, relays and whole nodes' noise leave."""
    one_step: bool = False
    """A node takes exactly one step a round."""
    whole_updates: str = ""
    """What it reads off each update, which therefore has to be whole: no codec that makes up later for what it left out."""
    cross_scored: bool = False
    """A node scores the model of another beside its own update."""
    audited: bool = True
    """`edgeward attack` plays it."""


STRATEGIES: Dict[str, Declared] = {
    "fedavg": Declared("fedavg.FedAvg", of_mean=True),
    "fedsgd": Declared("fedsgd.FedSGD", of_mean=True, one_step=True),
    "fedprox": Declared("fedprox.FedProx", of_mean=True),
    "scaffold": Declared("scaffold.Scaffold", whole_updates="control variates", audited=False),
    "fuala": Declared("fuala.Fuala", whole_updates="models that others score", cross_scored=True, audited=False),
    "fedbuff": Declared("fedbuff.FedBuff"),
    "fedadagrad": Declared("fedopt.FedAdagrad", of_mean=True),
    "fedadam": Declared("fedopt.FedAdam", of_mean=True),
    "fedyogi": Declared("fedopt.FedYogi", of_mean=True),
    "median": Declared("robust.Median"),
    "trimmed-mean": Declared("robust.TrimmedMean"),
    "krum": Declared("robust.Krum"),
    "multi-krum": Declared("robust.MultiKrum"),
    "geometric-median": Declared("robust.GeometricMedian"),
}

MEAN_STRATEGIES: Tuple[str, ...] = tuple(name for name, declared in STRATEGIES.items() if declared.of_mean)


def declared(name: str) -> Declared:
    """What is known of a strategy; of one that there is not, nothing: rounds/strategies.py refuses it by name."""
    return STRATEGIES.get(name, Declared(""))
