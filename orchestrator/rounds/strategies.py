"""The strategies there are, by the name a task uses."""

import difflib
from typing import Any, Dict, Iterable, Mapping

from orchestrator.rounds import norm_bound
from orchestrator.rounds.fedavg import FedAvg
from orchestrator.rounds.fedbuff import FedBuff
from orchestrator.rounds.fedopt import FedAdagrad, FedAdam, FedYogi
from orchestrator.rounds.fedprox import FedProx
from orchestrator.rounds.fedsgd import FedSGD
from orchestrator.rounds.fuala import Fuala
from orchestrator.rounds.robust import GeometricMedian, Krum, Median, MultiKrum, TrimmedMean
from orchestrator.rounds.scaffold import Scaffold
from orchestrator.rounds.strategy import Strategy

STRATEGIES: Dict[str, Any] = {
    "fedavg": FedAvg,
    "fedsgd": FedSGD,
    "fedprox": FedProx,
    "scaffold": Scaffold,
    "fuala": Fuala,
    "fedbuff": FedBuff,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "geometric-median": GeometricMedian,
}


def make_strategy(name: str, server_learning_rate: float, options: Mapping[str, float]) -> Strategy:
    """The strategy a task names; ValueError lists the strategies, or the options, there are."""
    if name not in STRATEGIES:
        raise ValueError(
            f"strategy {name!r}: this version has {', '.join(sorted(STRATEGIES))}{_near(name, STRATEGIES)}"
        )
    known = STRATEGIES[name].OPTIONS + ((norm_bound.OPTION,) if norm_bound.bounded(STRATEGIES[name]) else ())
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"strategy {name!r} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}{_near(unknown[0], known)}"
        )
    norm_bound.multiple_of(options)
    strategy: Strategy = STRATEGIES[name](server_learning_rate, options)
    return strategy


def _near(name: str, known: Iterable[str]) -> str:
    names = {other.casefold(): other for other in known}
    found = difflib.get_close_matches(name.casefold(), list(names), 1)
    return f", did you mean {names[found[0]]!r}?" if found else ""
