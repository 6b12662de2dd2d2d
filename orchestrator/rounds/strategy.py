"""What a strategy is: how the updates of a round become the next weights."""

from abc import ABC, abstractmethod
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Protocol, Tuple

import numpy as np

State = Dict[str, np.ndarray]
"""What a strategy keeps between rounds: float64 vectors by name. The gateway stores it with the round's result."""


class Update(NamedTuple):
    node: str
    weight: float  # records of the node
    delta: np.ndarray  # float32 (P,)
    staleness: int = 0  # rounds that ended since the weights it began from; above 0 in buffered mode only
    travel: float = 0.0  # sum of the learning rates of the local steps that made it
    known: float = 0.0  # records of all nodes known to the run, in this round or not
    scored: str = ""  # the node whose model it scored beside its update, where a strategy has that (rounds/fuala.py)
    score: Optional[float] = None


class Strategy(Protocol):
    """A function of its inputs: a round can be computed again after a crash."""

    least_updates: int
    """Fewer cannot be aggregated; a task whose quorum is below that is refused at start."""

    def broadcast(self, state: State) -> Dict[str, np.ndarray]:
        """Tensors that nodes need beside the weights of the next round."""
        ...

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        """(new float32 weights (P,), new state) from the old ones and this round's updates, read one at a time.

        Raises ValueError when these updates cannot be aggregated, saying why.
        """
        ...


class WeightsOnly:
    """A strategy whose nodes need nothing but the weights."""

    def broadcast(self, state: State) -> Dict[str, np.ndarray]:
        return {}


class OfTheMean(WeightsOnly, ABC):
    """A strategy that needs nothing but the mean of a round's updates, which a secure sum gives as well."""

    takes_mean = True

    @abstractmethod
    def move(self, weights: np.ndarray, mean: np.ndarray, state: State) -> Tuple[np.ndarray, State]:
        """(new float32 weights (P,), new state) from the old ones and the mean delta, float64 (P,)."""

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        return self.move(weights, weighted_mean(updates, weights.size), state)


def move_by_mean(strategy: Strategy, weights: np.ndarray, mean: np.ndarray, state: State) -> Tuple[np.ndarray, State]:
    """What `OfTheMean.move` gives; ValueError for a strategy that needs single updates."""
    if not isinstance(strategy, OfTheMean):
        raise ValueError(f"{type(strategy).__name__} needs single updates, and here is only their mean")
    return strategy.move(weights, mean, state)


def weighted_mean(updates: Iterable[Update], size: int) -> np.ndarray:
    """Sum of weight * delta over sum of weight, in float64; memory does not grow with the number of updates.

    The caller gives the updates in a fixed order (node name), so the result does not depend on who was faster.
    """
    total, weight_sum = np.zeros(size, np.float64), 0.0
    scratch = np.empty(size, np.float64)
    for update in updates:
        np.multiply(update.delta, update.weight, out=scratch, dtype=np.float64)
        total += scratch
        weight_sum += update.weight
    if weight_sum <= 0:
        raise ValueError("no update with a positive weight")
    return total / weight_sum


def step(weights: np.ndarray, delta: np.ndarray, learning_rate: float) -> np.ndarray:
    """float32 weights moved by learning_rate * delta."""
    with np.errstate(over="ignore", invalid="ignore"):  # the gateway looks at what comes out
        return (weights + learning_rate * delta).astype(np.float32)


def stacked(updates: Iterable[Update]) -> Tuple[List[str], np.ndarray]:
    """(nodes, float32 deltas (n, P)): for strategies that compare updates, and so hold all of them in memory."""
    given = list(updates)
    if not given:
        raise ValueError("no updates")
    return [update.node for update in given], np.stack([update.delta for update in given])


def option(options: Mapping[str, float], name: str, default: float, low: float, high: float) -> float:
    """options[name], or the default; ValueError outside [low, high]."""
    value = float(options.get(name, default))
    if not low <= value <= high:
        raise ValueError(f"option {name!r} is {value:g}, expected {low:g} to {high:g}")
    return value


def whole_option(options: Mapping[str, float], name: str, default: int, low: int, high: int) -> int:
    """Like `option`, of whole numbers alone: ValueError for another one, which would count as a smaller one unseen."""
    value = option(options, name, default, low, high)
    if value != int(value):
        raise ValueError(f"option {name!r} is {value:g}, expected a whole number, {low} to {high}")
    return int(value)
