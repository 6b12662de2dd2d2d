"""The figures that follow from counts of scores in bins, among those with an outcome and those without."""

import math
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses import intervals
from orchestrator.analyses.base import Cell, interval

BANDS = 10
CONFUSION = ("true positives", "false positives", "false negatives", "true negatives", "accuracy")
_HIDDEN = 0.25
"""Width from which noise hides a figure between 0 and 1."""


class Scale(NamedTuple):
    """Of the scores. A part of the sums: bins of those without the outcome, of those with it and, of probabilities, two sums."""

    bins: int
    low: float
    high: float

    @property
    def probable(self) -> bool:
        """Whether scores are probabilities."""
        return self.low >= 0 and self.high <= 1

    def counts(self, part: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(those without the outcome, those with it), each (bins,)."""
        return part[: self.bins], part[self.bins : 2 * self.bins]

    def figures(self, part: np.ndarray, noise: float) -> Tuple[Cell, ...]:
        """How many, how many with the outcome, AUC and its interval; of probabilities Brier score and expected / observed."""
        without, with_it = self.counts(part)
        events, others = float(with_it.sum()), float(without.sum())
        records = events + others
        area = area_of(without, with_it, noise)
        cells: List[Cell] = [_plain(records), _plain(events), *(area if area else (None, None, None))]
        if self.probable:
            expected, squared = float(part[-2]), float(part[-1])
            shown = records > 0 and 2 * interval(noise) <= _HIDDEN * records
            cells.append(squared / records if shown and squared >= 0 else None)
            several = math.sqrt(len(with_it)) * interval(noise)
            cells.append(expected / events if events > 0 and several <= _HIDDEN * events else None)
        return tuple(cells)

    def bands(self, part: np.ndarray, noise: float) -> Iterator[Tuple[Cell, ...]]:
        """Of each tenth of the range: how many, and how many of them have the outcome, with Wilson's interval (1927)."""
        without, with_it = self.counts(part)
        edges = np.unique(np.linspace(0, self.bins, min(BANDS, self.bins) + 1).round().astype(int))
        for start, end in zip(edges[:-1], edges[1:]):
            events, n = float(with_it[start:end].sum()), float((without + with_it)[start:end].sum())
            ends = [self._edge(start), self._edge(end)]
            hides = interval(noise) * math.sqrt(2 * (end - start)) > _HIDDEN * n
            if n <= 0 or hides or not 0 <= events <= n:
                yield (*ends, _plain(n), None, None, None)
                continue
            p, (low, high) = events / n, intervals.share(events, n)
            yield (*ends, _plain(n), p, min(p, low), max(p, high))

    def shares(self, part: np.ndarray, noise: float, thresholds: Sequence[float]) -> Iterator[Tuple[Cell, ...]]:
        """At each threshold sensitivity, specificity, PPV and NPV."""
        for edge, (hit, false, missed, right) in self._at(part, thresholds):
            yield (
                edge,
                *(self._share(*pair, noise) for pair in ((hit, missed), (right, false), (hit, false), (right, missed))),
            )

    def confusion(self, part: np.ndarray, noise: float, thresholds: Sequence[float]) -> Iterator[Tuple[Cell, ...]]:
        """At each threshold the columns of CONFUSION."""
        for edge, counts in self._at(part, thresholds):
            hit, false, missed, right = counts
            yield (edge, *(_plain(each) for each in counts), self._share(hit + right, false + missed, noise))

    def _at(
        self, part: np.ndarray, thresholds: Sequence[float]
    ) -> Iterator[Tuple[float, Tuple[float, float, float, float]]]:
        """(the threshold as an edge of a bin, (hits, false ones, missed ones, rightly not))."""
        without, with_it = self.counts(part)
        for threshold in thresholds:
            place = int(np.clip(round((threshold - self.low) / (self.high - self.low) * self.bins), 0, self.bins))
            hit, missed = float(with_it[place:].sum()), float(with_it[:place].sum())
            false, right = float(without[place:].sum()), float(without[:place].sum())
            yield self._edge(place), (hit, false, missed, right)

    def _share(self, a: float, b: float, noise: float) -> Cell:
        """Of a in both; None where noise hides it."""
        hidden = interval(noise) * math.sqrt(2 * self.bins)
        return a / (a + b) if a + b > 0 and hidden <= _HIDDEN * (a + b) and 0 <= a <= a + b else None

    def _edge(self, place: int) -> float:
        return self.low + (self.high - self.low) * place / self.bins


def notes(scale: Scale, missing: float, deviation: float, units: str) -> Iterator[str]:
    """What people must know who read the tables. missing: how many were left out."""
    width = (scale.high - scale.low) / scale.bins
    yield f"scores are counted in bins of {width:.3g}: of two in one bin neither is higher; thresholds are edges of bins"
    yield "the interval of an AUC is Newcombe's, of 95 %" + (", of chance and noise together" if deviation else "")
    if missing > interval(deviation):
        yield f"{missing:.6g} {units} without score, outcome or group were left out"
    if deviation:
        yield f"each count carries noise: with 95 % it is within {interval(deviation):.3g}. What that hides is left out"


def area_of(without: np.ndarray, with_it: np.ndarray, noise: float) -> Optional[Tuple[float, float, float]]:
    """(AUC, from, to) from counts (bins,); None where a side is empty or noise of that deviation on each count hides it."""
    events, others = float(with_it.sum()), float(without.sum())
    several = math.sqrt(len(with_it)) * interval(noise)
    if min(events, others) <= 0 or several > _HIDDEN * min(events, others):
        return None
    below = np.cumsum(without) - without / 2
    above = events - np.cumsum(with_it) + with_it / 2
    area = float(with_it @ below) / (events * others)
    if not 0 <= area <= 1:
        return None
    slopes = np.concatenate([(below - area * others), (above - area * events)]) / (events * others)
    low, high = intervals.area(area, events, others, noise * float(np.sqrt(slopes @ slopes)))
    return area, min(low, area), max(high, area)


def _plain(value: float) -> Cell:
    return int(value) if float(value).is_integer() else float(value)
