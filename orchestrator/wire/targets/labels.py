"""Several labels at once, each there or not: a logistic regression for each, over what they share."""

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.wire.bounds import twice
from orchestrator.wire.evaluation import LOSS_BOUND
from orchestrator.wire.targets.base import LOSS, Declared, Figures, Quoted
from orchestrator.wire.targets.shares import Z, around, of_mean

SHOWN = 0.1
"""A figure that the noise of privacy alone moves by more (95 %) is not shown."""
MOST_LABELS = 24
"""A float32 holds their bits."""
MOST_NAME = 200


@dataclass(frozen=True)
class LabelsOptions:
    """Of kind "labels"."""

    columns: Tuple[str, ...]  # each has 1 where a record has that label, 0 where it has not [2 to 24 columns]


class Labels(Declared):
    """Columns of 0 and 1; the model has an output for each, a logit. A record's code has a bit for each, the first the least."""

    kind = "labels"
    Options = LabelsOptions
    ending = "sigmoid"
    metrics = (LOSS, "accuracy", "auc")

    def objections(self) -> Iterator[str]:
        names = self.options.columns
        if not 2 <= len(names) <= MOST_LABELS:
            yield f"columns: {len(names)}, expected 2 to {MOST_LABELS}"
        yield from twice("columns", names)
        if not all(name and name == name.strip() and len(name) <= MOST_NAME for name in names):
            yield f"columns: a name is not empty, has no spaces around it and at most {MOST_NAME} characters"
        if self.schema.label:
            yield "kind: 'labels' has the columns it names, and schema.label names another: leave it out"

    @property
    def columns(self) -> Tuple[str, ...]:
        return tuple(self.options.columns)

    @property
    def outputs(self) -> int:
        return len(self.options.columns)

    @property
    def names(self) -> Tuple[str, ...]:
        return self.columns

    @property
    def loss(self) -> Dict[str, Any]:
        return {"kind": "labels"}

    @property
    def exported_words(self) -> str:
        return "for each label its probability: scale * (int8 - zero_point)"

    @property
    def steepness(self) -> float:
        """Of probabilities of a half."""
        return 0.5 * math.sqrt(self.outputs)

    def code(self, values: Sequence[float]) -> int:
        if any(value not in (0.0, 1.0) for value in values):
            raise ValueError("a label is 1 where a record has it and 0 where it has not")
        return sum(int(value) << place for place, value in enumerate(values))

    def invented(self, draw: np.random.Generator) -> List[str]:
        return [str(int(bit)) for bit in draw.integers(0, 2, self.outputs)]

    def words(self, quoted: Quoted) -> str:
        shown = [quoted(name) for name in self.columns[:6]]
        more = self.outputs - len(shown)
        return f"which of {', '.join(shown)}{f' and {more} more' if more else ''} a record has"

    def bits(self, y: np.ndarray) -> np.ndarray:
        """float64 (n, labels)."""
        return ((np.asarray(y, np.int64)[:, np.newaxis] >> np.arange(self.outputs)) & 1).astype(np.float64)

    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n, labels): probabilities."""
        return self._certain(1 / (1 + np.exp(-np.clip(outputs, -40, 40))), np.isfinite(outputs), y)

    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return self._certain(np.clip(values, 0.0, 1.0), np.isfinite(values), y)

    def _certain(self, p: np.ndarray, finite: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(finite, p, 1 - self.bits(y))

    def size(self, bins: int) -> int:
        return self.outputs * 2 * bins + 1

    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        """For each label a histogram over (whether it is there, bin of its probability), in which a record counts 1 / labels."""
        bits = self.bits(y)
        place = np.clip((answers * bins).astype(np.int64), 0, bins - 1)
        cell = (np.arange(self.outputs) * 2 + bits.astype(np.int64)) * bins + place
        cells = np.bincount(cell.ravel(), minlength=self.outputs * 2 * bins) / self.outputs
        losses = np.minimum(self._losses(bits, answers), LOSS_BOUND).mean(axis=1) / LOSS_BOUND
        return np.append(cells, losses.sum())

    def of_rows(self, y: np.ndarray, answers: np.ndarray) -> Figures:
        """accuracy and auc: means over labels; aucs: of each that some records have and some have not."""
        bits, n = self.bits(y), len(y)
        right = ((answers >= 0.5) == (bits == 1)).mean(axis=1)
        losses = self._losses(bits, answers).mean(axis=1)
        said: Dict[str, Any] = {"records": float(n), "intervals": {}, "warning": ""}
        said.update(accuracy=float(right.mean()), loss=float(losses.mean()))
        within = around(said["accuracy"], Z * float(right.std()) / math.sqrt(n), n)
        assert within is not None, "a share"
        said["intervals"]["accuracy"] = [within[0], min(1.0, within[1])]
        if of_mean(losses) is not None:
            said["intervals"]["loss"] = of_mean(losses)
        areas = {}
        for place, name in enumerate(self.columns):
            values, order = np.unique(answers[:, place], return_inverse=True)
            there = np.bincount(order, bits[:, place], len(values))
            areas[name] = area(there, np.bincount(order, minlength=len(values)) - there)
        return {**said, **_together(areas)}

    def of_sums(self, sums: np.ndarray, bins: int, noise: float) -> Figures:
        cells = sums[:-1].reshape(self.outputs, 2, bins) * self.outputs
        n, noise_of_cell = float(sums[:-1].sum()), noise * self.outputs
        said: Dict[str, Any] = {name: None for name in ("records", "accuracy", "loss", "auc")}
        said.update(aucs=dict.fromkeys(self.columns), intervals={}, warning="")
        moved: Dict[str, float] = {}
        if n >= 1 and Z * noise * math.sqrt(sums.size) <= n / 2:
            right = float(cells[:, 1, -(-bins // 2) :].sum() + cells[:, 0, : bins // 2].sum()) / self.outputs
            moved = {"accuracy": Z * noise * math.sqrt(sums.size) / n, "loss": LOSS_BOUND * Z * noise / n}
            said.update(
                records=float(round(n)),
                accuracy=min(1.0, max(0.0, right / n)),
                loss=LOSS_BOUND * min(1.0, max(0.0, float(sums[-1]) / n)),
            )
            areas = {name: area(cells[place, 1], cells[place, 0]) for place, name in enumerate(self.columns)}
            spread = {
                name: _spread(cells[place, 1], cells[place, 0], noise_of_cell)
                for place, name in enumerate(self.columns)
            }
            said.update(_together({name: areas[name] if spread[name] <= SHOWN else None for name in areas}))
            said["auc"] = None if max(spread.values()) > SHOWN else said["auc"]  # a mean of all of them, or none
            moved["auc"] = math.sqrt(sum(each**2 for each in spread.values())) / len(spread)
        for name in [name for name, each in moved.items() if each > SHOWN * (2 if name == "loss" else 1)]:
            said[name] = None
        if noise:
            said.update(
                noise=moved, too_noisy=[name for name in ("records", "accuracy", "loss", "auc") if said[name] is None]
            )
        return said

    @staticmethod
    def _losses(bits: np.ndarray, answers: np.ndarray) -> np.ndarray:
        return -np.log(np.maximum(np.where(bits == 1, answers, 1 - answers), 1e-12))

    def said(self, values: np.ndarray) -> Dict[str, Any]:
        found = {name: float(f"{share:.6g}") for name, share in zip(self.columns, values)}
        return {"predicted": " ".join(name for name, share in found.items() if share >= 0.5), "probabilities": found}

    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        return {name: int(count) for name, count in zip(self.columns, (values >= 0.5).sum(axis=0))}

    def label(self, code: int) -> Any:
        return " ".join(name for place, name in enumerate(self.columns) if code >> place & 1)


def area(there: np.ndarray, absent: np.ndarray) -> Optional[float]:
    """Under the ROC curve, of records with and without a label by rising probability; ties count half. None without either."""
    positives, negatives = float(there.sum()), float(absent.sum())
    if min(positives, negatives) < 0.5:
        return None
    below = np.cumsum(absent) - absent / 2
    return min(1.0, max(0.0, float((there * below).sum() / (positives * negatives))))


def _spread(there: np.ndarray, absent: np.ndarray, noise: float) -> float:
    """By how much noise on every count moves the area, 95 %, to first order."""
    positives, negatives = float(there.sum()), float(absent.sum())
    found = area(there, absent)
    if not noise or found is None:
        return 0.0 if not noise else math.inf
    below = (np.cumsum(absent) - absent / 2) / negatives - found
    above = (positives - np.cumsum(there) + there / 2) / positives - found
    return Z * noise * math.sqrt(float((below**2).sum()) / positives**2 + float((above**2).sum()) / negatives**2)


def _together(areas: Dict[str, Optional[float]]) -> Dict[str, Any]:
    known = [each for each in areas.values() if each is not None]
    return {"auc": float(np.mean(known)) if known else None, "aucs": areas}
