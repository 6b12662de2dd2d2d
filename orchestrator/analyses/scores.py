"""How well scores tell two classes apart, from counts of them."""

import math
from typing import Optional, Tuple

import numpy as np

from orchestrator.analyses import intervals
from orchestrator.analyses.base import CERTAINTY, interval


def auc_of(counts: np.ndarray, deviation: float) -> Optional[Tuple[float, float, float]]:
    """(area under the curve, the ends of its interval of 95 %) from how many others and how many of a class have which score,
    (2, bins); None where there are too few. What noise of this deviation on each count does to it is counted to first order.
    """
    others, mine = counts
    negatives, positives = float(others.sum()), float(mine.sum())
    if min(positives, negatives) <= max(0.5, 2 * interval(deviation * math.sqrt(len(mine)))):
        return None
    below = others.cumsum() - others / 2
    above = positives - mine.cumsum() + mine / 2
    pairs = positives * negatives
    area = min(max(float((mine * below).sum()) / pairs, 0.0), 1.0)
    # DeLong, DeLong and Clarke-Pearson 1988: how much the ranks of each class vary among those of the other.
    sampled = (
        float((np.maximum(mine, 0.0) * (below / negatives - area) ** 2).sum()) / positives / max(positives - 1, 1.0)
    )
    sampled += (
        float((np.maximum(others, 0.0) * (above / positives - area) ** 2).sum()) / negatives / max(negatives - 1, 1.0)
    )
    moved = float(((below - area * negatives) ** 2).sum() + ((above - area * positives) ** 2).sum())
    if (
        sampled <= 1e-15
    ):  # nobody of the classes overlaps, or all have one score: that they are alike says how little is known
        low, high = intervals.area(area, positives, negatives, deviation * math.sqrt(moved) / pairs)
        return area, min(low, area), max(high, area)
    half = CERTAINTY * math.sqrt(sampled + deviation**2 * moved / pairs**2)
    return area, max(area - half, 0.0), min(area + half, 1.0)
