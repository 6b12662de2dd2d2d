"""Doses for people, found on simulated patients that are made of a hospital's own: how much of a drug, by what is known of each.

Before each dose the policy sees a record's columns and the concentration that is left, and gives a share of the largest dose:
1 / (1 + exp(-z)) of it, with z a sum of weights times inputs. It is worth the share of time that concentrations are within a
range (pharmacokinetics.py). With weights of 0 everybody gets the standard dose by body weight, which results are compared with.
"""

import math
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Cell, Result, State, Table, interval
from orchestrator.analyses.evolution import HIDDEN, Evolution, Worth, objections_to_search
from orchestrator.analyses.inputs import Inputs, columns_of, in_units, number_of
from orchestrator.analyses.pharmacokinetics import Drug, time_in_range
from orchestrator.wire.bounds import count, refuse, within
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Schema

LEVEL = "(concentration)"
FULL_FUNCTION = 100.0
_LEAST_FUNCTION, _MOST_FUNCTION = 0.05, 3.0
_MOST_EXPONENT = 30.0
_TOGETHER = 2048


@dataclass(frozen=True)
class DosingOptions:
    """Of kind "dosing". Concentrations are in mg/L, and what is simulated is no real drug unless you give its figures."""

    weight: str  # column of body weight in kg [a column]
    function: str = ""  # column of what eliminates, such as creatinine clearance; 100 is whole [a column, or empty]
    inputs: Tuple[str, ...] = ()  # columns the policy sees; left out: all [columns]
    clearance: float = 4.5  # L/h of a person of 70 kg with whole function [0.001 to 1000]
    volume: float = 0.7  # L/kg that the drug is spread in [0.01 to 100]
    # standard deviation of the logarithm of both among people who look alike [0 to 1]
    variability: float = 0.25
    low: float = 10.0  # the least concentration that helps [0.001 to 1e6]
    high: float = 25.0  # the largest that does no harm [above low, at most 1e6]
    interval_h: float = 8.0  # hours between doses [0.1 to 168]
    doses: int = 6  # of a patient [1 to 50]
    rounds: int = 40  # of the search [1 to 1000]
    pairs: int = 12  # of policies that are compared in a round [1 to 1024]
    spread: float = 0.3  # how far these are from the weights, in deviations of a step [0.001 to 10]
    rate: float = 3.0  # how far weights move along a slope of 1 [0 to 10000]
    # weights to begin with, in the order of the result; left out: 0, which is the standard dose [-100 to 100 each]
    start: Tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wrong = [*objections_to_search(self), *within("clearance", self.clearance, 1e-3, 1e3)]
        wrong += [*within("volume", self.volume, 0.01, 100.0), *within("variability", self.variability, 0.0, 1.0)]
        wrong += [*within("low", self.low, 1e-3, 1e6), *within("interval_h", self.interval_h, 0.1, 168.0)]
        wrong += [*count("doses", self.doses, 1, 50)]
        if not self.low < self.high <= 1e6:
            wrong.append(f"high: {self.high}, expected more than low ({self.low:g}) and at most 1e6")
        refuse(wrong)


class Dosing(Evolution):
    """Measured are the share of time in range, how much more that is than with the standard dose, and the square of that."""

    Options = DosingOptions
    measures = 3

    def __init__(self, schema: Schema, options: DosingOptions) -> None:
        self._inputs = Inputs(schema, options.inputs, (), intercept=True)
        self._by_name = {feature.name: feature for feature in schema.features}
        self._drug = Drug(
            options.clearance,
            options.volume,
            options.variability,
            options.low,
            options.high,
            options.interval_h,
            options.doses,
        )
        super().__init__(schema, options)

    def objections(self) -> Iterator[str]:
        """Weight and function are numbers above 0, as they are measured."""
        yield from self._inputs.objections()
        for option, name in (("weight", self.options.weight), ("function", self.options.function)):
            if option == "function" and not name:
                continue
            feature, why = number_of(option, name, self.schema)
            if feature is None:
                yield why
            elif feature.transform or feature.range[0] <= 0:
                yield f"{option}: {name!r} must have a minimum above 0, and no transform"
        yield from super().objections()

    @property
    def names(self) -> Sequence[Tuple[str, ...]]:
        """An input each, and the concentration."""
        return [*((term.name,) for term in self._inputs.terms), (LEVEL,)]

    @property
    def read(self) -> Tuple[str, ...]:
        """Inputs, weight and function."""
        named = [feature.name for feature in self._inputs.features]
        return tuple(dict.fromkeys(name for name in (*named, self.options.weight, self.options.function) if name))

    def worth(self, policies: np.ndarray, against: float, x: np.ndarray) -> Worth:
        """The share of time in range; of some people at a time, since each becomes nine."""
        pieces = [self._worth(policies, x[start : start + _TOGETHER]) for start in range(0, max(1, len(x)), _TOGETHER)]
        return Worth(*map(np.concatenate, zip(*pieces)))

    def _worth(self, policies: np.ndarray, x: np.ndarray) -> Worth:
        inputs, used = self._inputs.read(x)
        columns = columns_of(x, self.schema)
        weight, function = (
            in_units(columns[name], self._by_name[name]) if name else np.full(len(x), FULL_FUNCTION)
            for name in (self.options.weight, self.options.function)
        )
        used &= ~np.isnan(weight) & ~np.isnan(function)
        weight = np.where(used, weight, 1.0)
        function = np.clip(np.where(used, function, 1.0) / FULL_FUNCTION, _LEAST_FUNCTION, _MOST_FUNCTION)
        shares = [self._share(policy, inputs, weight, function) for policy in policies]
        standard = self._share(np.zeros(policies.shape[1]), inputs, weight, function)
        more = shares[-1] - standard
        measured = np.stack([shares[-1], more, more**2], axis=1)
        return Worth(np.stack(shares[:-1], axis=1), measured, used)

    def _share(self, policy: np.ndarray, inputs: np.ndarray, weight: np.ndarray, function: np.ndarray) -> np.ndarray:
        middle, largest = self._drug.middle, 2 * self._drug.standard
        known = (inputs @ policy[:-1])[:, np.newaxis]

        def dose(level: np.ndarray) -> np.ndarray:
            seen = np.clip((level - middle) / middle, -1.0, 1.0)
            z = np.clip(known + policy[-1] * seen, -_MOST_EXPONENT, _MOST_EXPONENT)
            return np.asarray(largest / (1.0 + np.exp(-z)))

        return time_in_range(self._drug, weight, function, dose)

    def reached(self, measured: np.ndarray, people: float, noise: float) -> Optional[float]:
        """The mean share of time in range."""
        return float(measured[0] / people) if interval(noise) <= HIDDEN * people else None

    def result(self, state: State, units: str) -> Result:
        """Tables "worth" and "policy": what the last round measured, of the weights it measured."""
        noise, people = float(state["deviation"][0]), float(state["total"][-2])
        share, more, squared = (float(value) for value in state["total"][-5:-2])
        rows: List[Tuple[Cell, ...]] = [("policy", None, None, None), ("standard dose", None, None, None)]
        if people > 0 and interval(noise) <= HIDDEN * people:
            mean = more / people
            variance = max(0.0, squared / people - mean**2) / people + (noise / people) ** 2
            half = interval(math.sqrt(variance))
            rows = [
                ("policy", share / people, None, None),
                ("standard dose", (share - more) / people, None, None),
                ("difference", mean, mean - half, mean + half),
            ]
        policy: List[Tuple[Cell, ...]] = [
            (name, float(weight)) for (name,), weight in zip(self.names, state["weights"])
        ]
        tables = [
            Table("worth", ("of", "time in range", "from", "to"), rows, "time in range"),
            Table("policy", ("input", "weight"), policy),
        ]
        return Result(tables, list(self._notes(state, noise, units)))

    def _notes(self, state: State, noise: float, units: str) -> Iterator[str]:
        drug, left_out = self._drug, float(state["total"][-1])
        yield (
            "all of this is simulated: one compartment, and people who differ as `variability` says; nobody was given a dose. "
            "It is no advice for a patient"
        )
        yield (
            f"the dose is {2 * drug.standard:.4g} mg/kg / (1 + exp(-z)), z the sum of weight times input: a number over [-1, 1] "
            f"of its range, a level 0 or 1; {LEVEL}: (c - {drug.middle:g}) / {drug.middle:g}, within -1 to 1"
        )
        yield f"over {float(state['total'][-2]):.6g} {units}; the interval of the difference is of 95 %"
        if left_out > interval(noise):
            yield f"{left_out:.6g} {units} that lack an input were left out"
        if noise:
            yield f"every sum carries noise: with 95 % it is within {interval(noise):.3g}; so do the weights, from every round"

    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What is computed, and from what."""
        options: DosingOptions = self.options
        by = f" and {quoted(options.function)}" if options.function else ""
        return [
            f"doses by an evolution strategy: each record becomes simulated patients, by {quoted(options.weight)}{by}; of "
            f"{2 * options.pairs + 1} policies of {many(len(self.names), 'weight')} a round the time in range, in "
            f"{many(options.rounds, 'round')}"
        ]
