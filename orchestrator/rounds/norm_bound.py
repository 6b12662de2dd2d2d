"""A bound on single updates where a round is their mean: a multiple of the median of the round's norms.

A node that sends a thousand times what the others do would otherwise be the round. Half of the nodes have to work together to
move the median. Longer updates are shortened to the bound, and keep their direction: within it a node may still say what it
likes, and as often as it is asked (rounds/robust.py has strategies for that). Norms are L2, over all values of an update.
"""

from typing import Any, Iterable, Mapping

import numpy as np

OPTION = "norm_bound"
"""Of all strategies that take a mean: the multiple; 0 switches the bound off."""

DEFAULT = 3.0
"""Honest nodes' norms differ by how much data they have and how unlike they are: rarely by more than a factor of two."""

LEAST = 3
"""Updates of which there is a median that is not one of an attacker's making."""


def multiple_of(options: Mapping[str, float], default: float = DEFAULT) -> float:
    """The task's multiple; ValueError for one below 1, which would shorten most updates, and 0 is off."""
    multiple = float(options.get(OPTION, default))
    if multiple != 0 and not 1 <= multiple <= 1e6:
        raise ValueError(f"option {OPTION!r} is {multiple:g}, expected 1 to 1e+06, or 0 for no bound")
    return multiple


def norm_of(delta: np.ndarray) -> float:
    """L2 norm, summed in float64 without a copy of the vector."""
    return float(np.sqrt(np.einsum("i,i->", delta, delta, dtype=np.float64)))


def bound_of(norms: Iterable[float], multiple: float) -> float:
    """The longest an update may be; infinite where nothing is bounded. Updates of nothing do not count for the median."""
    counted = [norm for norm in norms if norm > 0]
    return multiple * float(np.median(counted)) if multiple and len(counted) >= LEAST else float("inf")


def bounded(strategy: Any) -> bool:
    """Whether a strategy, or its class, takes a mean of updates, and so needs the bound."""
    return bool(getattr(strategy, "takes_mean", False))
