"""Simulated patients who are given a drug again and again: one compartment, doses at once, elimination of first order.

The concentration after a dose falls as exp(-k t) with k = clearance / volume (Rowland and Tozer, Clinical Pharmacokinetics and
Pharmacodynamics, 4th edition 2011, chapter 3). Clearance goes with weight to the power of 3/4 and volume with weight (Anderson
and Holford 2008, Annual Review of Pharmacology and Toxicology 48:303).
"""

from typing import Callable, NamedTuple

import numpy as np

TYPICAL_KG = 70.0
_QUANTILES = np.array([-0.9674215661017014, 0.0, 0.9674215661017014])
"""Of the normal law, at 1/6, 1/2 and 5/6."""


class Drug(NamedTuple):
    """What all people have in common."""

    clearance: float  # L/h, of a person of 70 kg
    volume: float  # L/kg
    variability: float  # standard deviation of the logarithm of clearance, and of volume, among people who look alike
    low: float  # mg/L: the least concentration that helps
    high: float  # mg/L: the largest that does no harm
    interval_h: float  # hours between doses
    doses: int

    @property
    def middle(self) -> float:
        """mg/L, of the range."""
        return (self.low + self.high) / 2

    @property
    def standard(self) -> float:
        """mg/kg: the dose whose mean concentration, in the end, is the middle of the range in a typical person of 70 kg."""
        return self.clearance * self.middle * self.interval_h / TYPICAL_KG


def time_in_range(
    drug: Drug, weight: np.ndarray, function: np.ndarray, dose: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """float64 (n,) within 0 to 1: the share of time, from the first dose on, that concentrations are within the range.

    weight: kg (n,). function: of the organ that eliminates, 1 is whole (n,). dose: mg/kg (n, 9) of concentrations before the
    dose, mg/L (n, 9), of nine people who look alike and differ by `variability`.
    """
    apart = np.exp(drug.variability * _QUANTILES)
    of_clearance, of_volume = (each.ravel() for each in np.meshgrid(apart, apart, indexing="ij"))
    clearance = drug.clearance * (weight / TYPICAL_KG) ** 0.75 * function
    volume = (drug.volume * weight)[:, np.newaxis] * of_volume
    rate = clearance[:, np.newaxis] * of_clearance / volume
    level, inside = np.zeros(rate.shape), np.zeros(len(weight))
    for _ in range(drug.doses):
        level = level + dose(level) * weight[:, np.newaxis] / volume
        until_low, until_high = (
            np.clip(np.log(np.maximum(level, 1e-300) / end) / rate, 0.0, drug.interval_h)
            for end in (drug.low, drug.high)
        )
        inside += (until_low - until_high).mean(axis=1)
        level = level * np.exp(-rate * drug.interval_h)
    return np.clip(inside / (drug.doses * drug.interval_h), 0.0, 1.0)
