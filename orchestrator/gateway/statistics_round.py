"""The round of standardization: mean and deviation of every column, from the sums of all nodes."""

import math
from typing import Any, Dict, Iterator, List, Optional, Protocol, Tuple

import numpy as np

from orchestrator.privacy.noisy_sum import statistics_sum
from orchestrator.privacy.standardization import (
    MIN_STD,
    at_an_end,
    constant_columns,
    exact_mean_and_std,
    mean_and_std,
    noise_of_std,
    on_floor,
    pooled,
    spread_of_moments,
)
from orchestrator.rounds.events import Aggregate
from orchestrator.wire.answering import Coded
from orchestrator.wire.codec import EXACT
from orchestrator.wire.counted import Counted
from orchestrator.wire.task import Task

Total = Tuple[np.ndarray, float]
"""(sums of all nodes, how many privacy units they are over)"""


class Answers(Protocol):
    """Of nodes to a round, read back; see aggregation.StoredAnswers."""

    def of(self, action: Aggregate) -> Iterator[Tuple[str, Dict[str, Any], Dict[str, np.ndarray]]]: ...
    def vector(self, number: int, header: Dict[str, Any], tensors: Dict[str, np.ndarray]) -> np.ndarray: ...
    def size(self, number: int) -> int: ...


class StatisticsRound:
    """Of one run."""

    def __init__(self, task: Task, answers: Answers) -> None:
        self._task, self._answers = task, answers
        self.exact = not (task.privacy.on or task.aggregation.secure)
        """Whether nodes sent their columns' sums as they are, and every answer can be read."""

    def total(self, action: Aggregate) -> Total:
        """Of answers that can be read."""
        total = np.zeros(self._answers.size(action.round), np.float64)
        units = 0
        for _, header, tensors in self._answers.of(action):
            total += self._answers.vector(action.round, header, tensors)
            units += Counted.read(header).units
        return total, float(units)

    def exact_total(self, action: Aggregate) -> Tuple[np.ndarray, int]:
        """(sums and squared distances of all nodes' records together, how many records they are)."""
        parts = []
        for _, header, tensors in self._answers.of(action):
            records, vector = Counted.read(header).records, self._answers.vector(action.round, header, tensors)
            # An answer to a gateway of before, which asked for moments.
            exact = Coded.read(header).codec == EXACT or not records
            parts.append((records, vector if exact else spread_of_moments(vector, records)))
        return pooled(parts)

    def vectors(self, action: Aggregate, total: Optional[Total]) -> Dict[str, np.ndarray]:
        """{mean, std}. `total`: None where the sums are exact."""
        if total is None:
            mean, std = exact_mean_and_std(*self.exact_total(action), self._task.schema)
        else:
            mean, std = mean_and_std(*total, self._task.schema)
        return {"mean": mean, "std": std}

    def figures(self, action: Aggregate, total: Optional[Total], mean: np.ndarray, std: np.ndarray) -> Dict[str, Any]:
        """{on_floor, constant}: columns whose spread is lost in noise, clipping or rounding; with one value on all nodes."""
        if total is None:
            return {"on_floor": [], "constant": constant_columns(*self.exact_total(action), self._task.schema)}
        return {"on_floor": self._on_floor(len(action.nodes), total[1], mean, std), "constant": []}

    def _on_floor(self, nodes: int, units: float, mean: np.ndarray, std: np.ndarray) -> List[str]:
        least, share = MIN_STD, 0.0
        if self._task.privacy.on:
            released = statistics_sum(self._task)
            noise = released.std * released.lattice.step * math.sqrt(nodes)
            least, share = noise_of_std(noise, max(1.0, units)), noise / max(1.0, units)
        schema = self._task.schema
        found = {*on_floor(std, schema, least), *at_an_end(mean, std, schema, share)}
        return [feature.name for _, feature in schema.numbers() if feature.name in found]
