"""Columns as the inputs of a model: numbers over [-1, 1], a category as one indicator for each level but the first."""

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import in_unit_range
from orchestrator.wire.bounds import near
from orchestrator.wire.schema import Feature, Schema

MOST_TERMS = 256


class Term(NamedTuple):
    """What a coefficient is of. feature: None of the intercept; level: of a category."""

    feature: Optional[Feature]
    level: str = ""

    @property
    def name(self) -> str:
        """As tables have it."""
        if self.feature is None:
            return "(intercept)"
        return f"{self.feature.name} = {self.level}" if self.level else self.feature.name


class Inputs:
    """Of columns of a schema that are named; where none are, of all that are not `apart`."""

    def __init__(self, schema: Schema, named: Sequence[str], apart: Sequence[str], intercept: bool) -> None:
        self._schema, self._named, self._apart = schema, tuple(named), tuple(apart)
        by_name = {feature.name: feature for feature in schema.features}
        chosen = self._named or tuple(name for name in by_name if name not in apart)
        self.features = [by_name[name] for name in chosen if name in by_name]
        self.terms = [Term(None)] if intercept else []
        for feature in self.features:
            self.terms += [Term(feature, level) for level in feature.categories[1:]] or [Term(feature)]

    def objections(self) -> Iterator[str]:
        """Why these columns are no inputs."""
        names = [feature.name for feature in self._schema.features]
        for name in self._named:
            if name not in names:
                yield f"inputs: no column {name!r} in the schema{near(name, names)}"
            elif name in self._apart:
                yield f"inputs: {name!r} is what is explained"
        if len(set(self._named)) < len(self._named):
            yield "inputs: a column is there twice"
        if not self.features:
            yield "inputs: no column is left to explain by"
        if len(self.terms) > MOST_TERMS:
            yield f"inputs: {len(self.terms)} coefficients, at most {MOST_TERMS}: name fewer columns"

    @property
    def squared(self) -> float:
        """The longest square there can be of a record's inputs: 1 for the intercept and for each column."""
        return float(len(self.features) + (self.terms[:1] == [Term(None)]))

    def read(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """((n, terms) within -1 to 1, which records lack nothing); x as of `Analysis.vectors`."""
        columns, used = columns_of(x, self._schema), np.ones(len(x), bool)
        found: List[np.ndarray] = [np.ones((len(x), 1))] if self.terms[:1] == [Term(None)] else []
        for feature in self.features:
            each = columns[feature.name]
            used &= present(each, feature)
            found.append(each[:, 1:] if feature.categories else each)
        return np.where(used[:, np.newaxis], np.concatenate(found, axis=1), 0.0), used


def present(column: np.ndarray, feature: Feature) -> np.ndarray:
    """bool (n,): which records have a value in a column of `columns_of`."""
    return np.asarray(column.sum(axis=1) > 0.5 if feature.categories else ~np.isnan(column[:, 0]))


def columns_of(x: np.ndarray, schema: Schema) -> Dict[str, np.ndarray]:
    """Name -> float64 (n, 1) of a number in its range, (n, levels) of a category; x as of `Analysis.vectors`."""
    found, column = {}, 0
    numbers = dict(zip((feature.name for _, feature in schema.numbers()), in_unit_range(x, schema).T))
    for feature in schema.features:
        if feature.categories:
            found[feature.name] = x[:, column : column + feature.width].astype(np.float64)
        else:
            found[feature.name] = numbers[feature.name][:, np.newaxis]
        column += feature.width
    return found
