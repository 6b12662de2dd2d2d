"""What a regression reads of each record: inputs, outcome, offset and weight."""

import math
from typing import Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.analyses.dispersed import NegativeBinomial
from orchestrator.analyses.family import LIMIT, NO_OFFSET, Family
from orchestrator.analyses.inputs import Inputs, columns_of, in_units, number_of, present
from orchestrator.analyses.regression_options import FAMILIES, LINEAR, RegressionOptions
from orchestrator.wire.bounds import near
from orchestrator.wire.schema import Schema


class Read(NamedTuple):
    """Of records: inputs (n, terms) within -1 to 1, outcome as of `Family.parts`, what is added to the linear predictor, weight
    over the largest there can be, and which of them lack nothing and have a weight (n,); zeros where one does not.
    """

    inputs: np.ndarray
    outcome: np.ndarray
    offset: np.ndarray
    weight: np.ndarray
    used: np.ndarray


class Reading:
    """The columns that options name, of a schema."""

    def __init__(self, schema: Schema, options: RegressionOptions, exact: bool = False) -> None:
        self._schema, self._options, self._exact = schema, options, exact
        self._by_name = {feature.name: feature for feature in schema.features}
        apart = (options.outcome, options.offset, options.exposure, options.weights)
        self.inputs = Inputs(schema, options.inputs, apart, True, options.interactions)
        self._outcome = self._by_name.get(options.outcome)
        self._added = self._by_name.get(options.offset or options.exposure)
        self._weights = self._by_name.get(options.weights)
        self._family = self._family_of()

    def _family_of(self) -> Optional[Family]:
        kind, outcome = FAMILIES[self._options.family], self._outcome
        if outcome is None or kind.objection(outcome):
            return None
        offset = self._offset_range() if not self._too_far() else NO_OFFSET
        if kind is NegativeBinomial:
            return NegativeBinomial(outcome, offset, self._exact, self._options.alpha)
        return kind(outcome, offset, self._exact)

    @property
    def family(self) -> Family:
        """Of the outcome."""
        assert self._family is not None, "there is no objection to the outcome"
        return self._family

    @property
    def weighted(self) -> bool:
        """Whether there are weights."""
        return self._weights is not None

    @property
    def shifted(self) -> bool:
        """Whether there is an offset."""
        return self._added is not None

    @property
    def unit(self) -> float:
        """The largest weight there can be, that others are divided by."""
        return 1.0 if self._weights is None else self._weights.range[1]

    def objections(self) -> Iterator[str]:
        """Every named column is there once, and of its kind."""
        yield from self.inputs.objections()
        options, outcome = self._options, self._outcome
        if outcome is None:
            yield f"outcome: no column {options.outcome!r} in the schema{near(options.outcome, self._by_name)}"
        elif self._family is None:
            why = FAMILIES[options.family].objection(outcome)
            yield f"outcome {outcome.name!r}: of a {options.family} model {why}"
        if options.offset and options.exposure:
            yield "exposure: there is an offset; it is one or the other"
        for option in ("offset", "exposure", "weights"):
            yield from self._objections_to(option, getattr(options, option)) if getattr(options, option) else ()
        yield from self._too_far()

    def _objections_to(self, option: str, name: str) -> Iterator[str]:
        feature, why = number_of(option, name, self._schema)
        if feature is None:
            yield why
        elif name == self._options.outcome:
            yield f"{option}: {name!r} is the outcome"
        elif option == "exposure" and feature.range[0] <= 0:
            yield f"exposure: {name!r} may be {feature.range[0]:g}, which has no logarithm; give it a minimum above 0"
        elif option == "weights" and (feature.range[0] < 0 or feature.transform):
            yield f"weights: {name!r}; expected a number without transform whose minimum is 0 or more"

    @property
    def names(self) -> Tuple[str, ...]:
        """Of the columns that are read."""
        options = self._options
        apart = (options.outcome, options.offset, options.exposure, options.weights)
        return (*(feature.name for feature in self.inputs.features), *filter(None, apart))

    def _offset_range(self) -> Tuple[float, float]:
        if self._added is None or self._added.categories:
            return NO_OFFSET
        low, high = self._added.scaled_range
        if not self._takes_logarithm:
            return low, high
        return (math.log(low), math.log(high)) if low > 0 else NO_OFFSET

    @property
    def _takes_logarithm(self) -> bool:
        """Whether what is added is the logarithm of a column that is not one already."""
        return bool(self._options.exposure) and self._added is not None and not self._added.transform

    def _too_far(self) -> List[str]:
        low, high = self._offset_range()
        if self._options.family == LINEAR or max(-low, high) <= LIMIT:
            return []
        return [f"offset: from {low:g} to {high:g}, expected numbers within {LIMIT:g} of 0, as a logarithm is"]

    def read(self, x: np.ndarray) -> Read:
        """x: as of `Analysis.vectors`."""
        inputs, used = self.inputs.read(x)
        columns, feature = columns_of(x, self._schema), self.family.outcome
        outcome = columns[feature.name]
        used &= present(outcome, feature)
        offset, weight = np.zeros(len(x)), np.ones(len(x))
        if self._added is not None:
            used &= present(columns[self._added.name], self._added)
            offset = in_units(columns[self._added.name], self._added)
            offset = np.log(offset) if self._takes_logarithm else offset
        if self._weights is not None:
            weight = np.clip(in_units(columns[self._weights.name], self._weights) / self.unit, 0.0, 1.0)
            used &= weight > 0  # and not missing
        values, added = self.family.shift(outcome[:, 1 if feature.categories else 0], offset)
        values, added, weight = (np.where(used, each, 0.0) for each in (values, added, weight))
        return Read(np.where(used[:, np.newaxis], inputs, 0.0), values, added, weight, used)
