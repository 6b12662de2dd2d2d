"""What a strategy is: how the updates of a round become the next weights."""

from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Protocol, Tuple, Type, Union

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


class Begun(NamedTuple):
    """What a node has at the beginning of a round. tensors: the round's message; size: shared weights."""

    node: str
    counted: Callable[[], Mapping[str, int]]
    """Node -> the last round whose update of it counted, of the message; WireError where it does not say it."""
    tensors: Mapping[str, np.ndarray]
    size: int
    kept: Callable[[str], Any]
    """Name -> what the node kept of a released round (`vector`, `round`), or None."""


class NodeHalf:
    """What a node does in a strategy beside plain steps along its gradient; here nothing more."""

    keeps = False
    """Whether `after` gives something."""

    def __init__(self, options: Mapping[str, float]) -> None:
        """`options`: the task's, which the gateway has checked (make_strategy)."""

    def pull(self, moved: np.ndarray) -> Union[float, np.ndarray]:
        """Added to the gradient of a step, after `moved` (P,) in this round. Of no record, so not clipped and without noise."""
        return 0.0

    def correction(self, begun: Begun) -> Optional[np.ndarray]:
        """float32 (size,): added to every gradient of the round; WireError where the round's message does not fit."""
        return None

    def after(self, begun: Begun, sent: np.ndarray, travel: float) -> Dict[str, np.ndarray]:
        """What to keep when `sent` (the update as the gateway will decode it) is released."""
        return {}


class Strategy(Protocol):
    """A function of its inputs: a round can be computed again after a crash."""

    AtNode: Type[NodeHalf]
    names_counted: bool
    """Whether a round's message says which update of each node counted last (announcing.LastCounted)."""

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

    AtNode: Type[NodeHalf] = NodeHalf
    names_counted = False

    def broadcast(self, state: State) -> Dict[str, np.ndarray]:
        return {}


class OfTheMean(WeightsOnly):
    """A strategy that needs nothing but the mean of a round's updates, which a secure sum gives as well."""

    takes_mean = True
    server_learning_rate: float

    def move(self, weights: np.ndarray, mean: np.ndarray, state: State) -> Tuple[np.ndarray, State]:
        """(new float32 weights (P,), new state) from the old ones and the mean delta, float64 (P,): a step along it."""
        return step(weights, mean, self.server_learning_rate), state

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
