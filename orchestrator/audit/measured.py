"""What an auditor who knows everything can measure beside guessing: noise, sensitivity and sampling as they really are.

Epsilon rests on these three. Estimates come with their standard error; something is called wrong only beyond six of
them, which chance alone does once in a thousand million times.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List

import numpy as np
from scipy import stats

from orchestrator.audit.laws import Result, noise

SIX = 6.0

_KEPT = 2_000_000
"""Most numbers of noise that are kept for tests of their law."""
_ROUNDED = 1.005
"""What rounding of the sampled units may add to the noise."""


@dataclass
class Measured:
    """Sums over all steps. Units: noise in declared standard deviations, shifts in clip norms."""

    squares: float = 0.0
    numbers: int = 0
    shifts: float = 0.0
    shift_squares: float = 0.0
    shift_count: int = 0
    sampled: int = 0
    chances: float = 0.0
    chance_variance: float = 0.0
    residuals: List[np.ndarray] = field(default_factory=list)

    def noise(self, residual: np.ndarray, declared_std: float) -> None:
        """residual: float (P,), a released sum less all that was known to be in it."""
        scaled = residual / declared_std
        self.squares += float(scaled @ scaled)
        self.numbers += scaled.size
        if self.numbers <= _KEPT:
            self.residuals.append(scaled)

    def noise_laws(self) -> Dict[str, Result]:
        """Tests of the noise in all releases so far, in their order (laws.py). Empty before two of them."""
        return noise(np.stack(self.residuals), 1.0, _ROUNDED) if len(self.residuals) > 1 else {}

    def shift(self, heard: np.ndarray) -> None:
        """heard: float (n,), the part of released sums in the direction of n canaries that were in them, in clip norms."""
        self.shifts += float(heard.sum())
        self.shift_squares += float(heard @ heard)
        self.shift_count += len(heard)

    def sampling(self, taken: int, of: int, rate: float) -> None:
        self.sampled += taken
        self.chances += of * rate
        self.chance_variance += of * rate * (1 - rate)

    def report(self) -> Dict[str, Any]:
        """name -> {measured, error, declared, holds}: a share of what was declared, which is 1, and its standard error."""
        found: Dict[str, Any] = {}
        if self.numbers:
            noise, error = math.sqrt(self.squares / self.numbers), 1 / math.sqrt(2 * self.numbers)
            found["noise"] = _entry(noise, error, noise >= 1 - SIX * error)
        if self.shift_count > 1:
            mean = self.shifts / self.shift_count
            variance = max(0.0, self.shift_squares / self.shift_count - mean**2)
            error = math.sqrt(variance / self.shift_count)
            # One part in a hundred: the grid's bound on a rounded vector (privacy/lattice.py), which noise is matched to. The
            # error is itself an estimate, a poor one with few canaries: so many of them as are as rare as six known ones.
            errors = stats.t.isf(stats.norm.sf(SIX), self.shift_count - 1)
            found["sensitivity"] = _entry(mean, error, mean <= 1.01 + errors * error)
        if self.chances and self.chance_variance:
            share, error = self.sampled / self.chances, math.sqrt(self.chance_variance) / self.chances
            found["sampling"] = _entry(share, error, share <= 1 + SIX * error)
        return found


def _entry(measured: float, error: float, holds: bool) -> Dict[str, Any]:
    return {"measured": measured, "error": error, "declared": 1.0, "holds": bool(holds)}


def wrong(report: Dict[str, Any]) -> List[str]:
    """Names of what does not hold."""
    return [name for name, entry in report.items() if not entry["holds"]]
