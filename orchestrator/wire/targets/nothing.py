"""Nothing is predicted: the model gives back its input through a narrow middle; how far it is off says how unusual a record is.

A record's *score* is the mean over its inputs (standardized) of (input - output)^2 (Hinton and Salakhutdinov 2006, Science
313:504). What is unusual is a quantile of the scores of records the model was not trained on.
"""

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from orchestrator.wire.plain import many
from orchestrator.wire.targets.base import LOSS, Declared, Figures, Quoted
from orchestrator.wire.targets.shares import Z, of_mean

STEPS = 4
"""Bins of scores for each doubling."""
LOWEST, BINS = -12, 96
"""The first bin ends at 2^(LOWEST + 1/STEPS), the last is open: scores from 0.0002 to 4,096."""
MOST_SCORE = 16.0
"""What a score counts as at most in the mean."""
LEAST_TAIL = 5.0
"""Records above a threshold that a quantile of private sums takes at least."""


@dataclass(frozen=True)
class NothingOptions:
    """Of kind "none"."""

    quantile: float = 0.99  # share of usual records whose score is no larger than the threshold [0.5 to 0.9999]


class Nothing(Declared):
    """There is no label; the model has as many outputs as inputs. Codes say nothing."""

    kind = "none"
    Options = NothingOptions
    metrics = (LOSS,)
    scored = True

    def objections(self) -> Iterator[str]:
        if not 0.5 <= self.options.quantile <= 0.9999:
            yield f"quantile: {self.options.quantile:g}, expected 0.5 to 0.9999"
        if self.schema.label:
            yield "kind: 'none' predicts nothing, and schema.label names a column: leave it out, or list it among the features"

    @property
    def columns(self) -> Tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> int:
        return int(math.prod(self.schema.input_shape))

    @property
    def loss(self) -> Dict[str, Any]:
        return {"kind": "reconstruction"}

    @property
    def exported_words(self) -> str:
        return "the input again: scale * (int8 - zero_point); how far it is off is the score"

    @property
    def steepness(self) -> float:
        """2 |output - input| / inputs of as many outputs, of inputs of mean square 1 that are not learned yet."""
        return 2 / math.sqrt(self.outputs)

    def code(self, values: Sequence[float]) -> int:
        raise ValueError("records have no label")

    def invented(self, draw: np.random.Generator) -> List[str]:
        return []

    def words(self, quoted: Quoted) -> str:
        return f"nothing: how unusual a record is, by what a model of its {many(self.outputs, 'input')} gives back"

    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n,): scores."""
        return scores(outputs, x)

    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return scores(values, x)

    def size(self, bins: int) -> int:
        return BINS + 1

    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        place = np.floor((np.log2(np.maximum(answers, 2.0**LOWEST)) - LOWEST) * STEPS)
        cells = np.bincount(np.clip(place, 0, BINS - 1).astype(np.int64), minlength=BINS)
        return np.append(cells, (np.minimum(answers, MOST_SCORE) / MOST_SCORE).sum()).astype(np.float64)

    def of_rows(self, y: np.ndarray, answers: np.ndarray) -> Figures:
        """loss: the mean score. threshold: the quantile of the task."""
        found, chosen = of_mean(answers), self.options.quantile
        return {
            "records": float(len(answers)),
            "loss": float(answers.mean()),
            "threshold": float(np.quantile(answers, chosen, method="inverted_cdf")),
            "intervals": {} if found is None else {"loss": found},
            "warning": self._warning(len(answers)),
        }

    def of_sums(self, sums: np.ndarray, bins: int, noise: float) -> Figures:
        """threshold: the end of the bin in which the quantile is; None where noise could move it beyond the next one."""
        counts, n = sums[:-1], float(sums[:-1].sum())
        said: Dict[str, Any] = {"records": None, "loss": None, "threshold": None, "intervals": {}, "warning": ""}
        hidden = []
        drowned = n < 1 or Z * noise * math.sqrt(BINS) > n / 2
        if not drowned:
            mean = MOST_SCORE * min(1.0, max(0.0, float(sums[-1]) / n))
            half = MOST_SCORE * Z * noise / n
            said.update(records=float(round(n)), loss=mean, warning=self._warning(n))
            if noise:
                said["intervals"]["loss"] = [max(0.0, mean - half), mean + half]
            said["threshold"] = self._quantile(counts, n, noise)
        if noise:
            hidden = [name for name in ("records", "loss", "threshold") if said[name] is None]
            said.update(noise={} if drowned else {"loss": MOST_SCORE * Z * noise / n}, too_noisy=hidden)
        return said

    def _quantile(self, counts: np.ndarray, n: float, noise: float) -> Any:
        above = np.cumsum(counts[::-1])[::-1]  # records in each bin or above it
        wanted = (1 - self.options.quantile) * n
        places = np.arange(BINS)
        doubt = Z * noise * np.sqrt(BINS - places)
        if wanted < LEAST_TAIL or wanted < doubt[-1]:
            return None
        fits = np.flatnonzero(above <= wanted)
        place = int(fits[0]) if len(fits) else BINS
        inside = max(0, place - 1)
        if noise and wanted < float(doubt[min(inside, BINS - 1)]):
            return None
        return float(2.0 ** (LOWEST + place / STEPS))

    def _warning(self, records: float) -> str:
        if (1 - self.options.quantile) * records >= LEAST_TAIL:
            return ""
        few = f"{many(records, 'record')} {'is' if round(records) == 1 else 'are'} few"
        return f"{few} for quantile {self.options.quantile:g}: a threshold rests on the largest of them"

    def said(self, values: np.ndarray) -> Dict[str, Any]:
        return {"score": float(f"{float(values[0]):.6g}")}

    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        ends = {"least score": values.min(), "median": np.median(values), "largest": values.max()}
        return {name: float(f"{float(value):.6g}") for name, value in ends.items()}

    def label(self, code: int) -> Any:
        return None


def scores(outputs: np.ndarray, x: np.ndarray) -> np.ndarray:
    """float64 (n,); one that is not finite is beyond all bins."""
    off = outputs.reshape(len(outputs), -1).astype(np.float64) - x.reshape(len(x), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.asarray((off**2).mean(axis=1))
    return np.where(np.isfinite(found), found, 2.0 ** (LOWEST + BINS / STEPS))
