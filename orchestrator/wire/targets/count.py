"""A count of events: Poisson regression."""

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from orchestrator.wire.bounds import count as count_within
from orchestrator.wire.targets import moments
from orchestrator.wire.targets.base import LOSS, Declared, Figures, Quoted
from orchestrator.wire.targets.number import bounded

MOST_COUNT = 1 << 20


@dataclass(frozen=True)
class CountOptions:
    """Of kind "count"."""

    maximum: int  # largest count there can be, whatever the data; public; more counts as it [1 to 1048576]


class Count(Declared):
    """The label, a whole number of 0 or more; the model's one output is the logarithm of the count that is expected.

    A record's code is its count. What training minimizes is exp(output) - count x output; figures are those of a number, with the
    mean deviance beside them where rows are known one by one (McCullagh and Nelder 1989, Generalized Linear Models, section 6.2).
    """

    kind = "count"
    Options = CountOptions
    metrics = (LOSS, "mae", "rmse", "r2")

    def objections(self) -> Iterator[str]:
        yield from count_within("maximum", self.options.maximum, 1, MOST_COUNT)
        if not self.schema.label:
            yield "kind: 'count' needs schema.label, the column the count is in"

    @property
    def limits(self) -> Tuple[float, float]:
        return 0.0, float(self.options.maximum)

    @property
    def outputs(self) -> int:
        return 1

    @property
    def loss(self) -> Dict[str, Any]:
        return {"kind": "poisson"}

    @property
    def exported_words(self) -> str:
        return "the natural logarithm of an expected count: scale * (int8 - zero_point)"

    @property
    def steepness(self) -> float:
        """|exp(output) - count|, of outputs that are 0 and counts that are about Poisson's with mean 1."""
        return 1.0

    def code(self, values: Sequence[float]) -> int:
        if values[0] < 0 or values[0] != math.floor(values[0]):
            raise ValueError("not a count: a whole number of 0 or more")
        return int(min(values[0], self.options.maximum))

    def invented(self, draw: np.random.Generator) -> List[str]:
        return [str(min(self.options.maximum, int(draw.poisson(min(3.0, self.options.maximum / 2)))))]

    def words(self, quoted: Quoted) -> str:
        return f"{quoted(self.schema.label)} (a count up to {self.options.maximum})"

    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n,): expected counts as shares of the maximum."""
        most = self.options.maximum
        with np.errstate(over="ignore"):
            return bounded(np.exp(outputs[:, 0]) / most, np.asarray(y, np.float64) / most)

    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self.answers(values, y, x)

    def size(self, bins: int) -> int:
        return moments.SIZE

    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        return moments.count(np.asarray(y, np.float64) / self.options.maximum, answers)

    def of_rows(self, y: np.ndarray, answers: np.ndarray) -> Figures:
        most = self.options.maximum
        said = moments.of_rows(np.asarray(y, np.float64) / most, answers, float(most))
        expected = np.maximum(answers * most, 1e-9)
        ratio = np.where(y > 0, np.log(np.maximum(y, 1) / expected), 0.0)
        return {**said, "deviance": float(2 * (y * ratio - (y - expected)).mean())}

    def of_sums(self, sums: np.ndarray, bins: int, noise: float) -> Figures:
        return moments.of_sums(sums, float(self.options.maximum), noise)

    def said(self, values: np.ndarray) -> Dict[str, Any]:
        return {"expected": float(f"{self._expected(float(values[0])):.6g}")}

    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        ends = {"least": values.min(), "median": np.median(values), "largest": values.max()}
        return {name: float(f"{self._expected(float(value)):.6g}") for name, value in ends.items()}

    def label(self, code: int) -> Any:
        return code

    def _expected(self, value: float) -> float:
        return math.exp(min(value, math.log(self.options.maximum)))
