"""Columns as inputs of a model: numbers over [-1, 1], a category as an indicator for each level but the first, and products."""

from itertools import combinations, islice
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import in_unit_range
from orchestrator.wire.bounds import near, twice
from orchestrator.wire.schema import Feature, Schema

MOST_TERMS = 256
MOST_PAIRS = 1000
"""Of columns whose product is an input."""


class Factor(NamedTuple):
    """A number, or the indicator of a level of a category."""

    feature: Feature
    level: str = ""

    @property
    def name(self) -> str:
        """As tables have it."""
        return f"{self.feature.name} = {self.level}" if self.level else self.feature.name


class Term(NamedTuple):
    """What a coefficient is of: the product of its factors, which is 1 for the intercept, that has none."""

    factors: Tuple[Factor, ...] = ()

    @property
    def name(self) -> str:
        """As tables have it."""
        return " : ".join(factor.name for factor in self.factors) or "(intercept)"

    @property
    def logarithm(self) -> bool:
        """Whether a factor is the logarithm of a number."""
        return any(factor.feature.transform for factor in self.factors)


class Inputs:
    """Of columns of a schema that are named, else of all that are not `apart`. pairs: of these, whose products follow."""

    def __init__(
        self,
        schema: Schema,
        named: Sequence[str],
        apart: Sequence[str],
        intercept: bool,
        pairs: Sequence[Sequence[str]] = (),
    ) -> None:
        self._schema, self._named, self._apart = schema, tuple(named), tuple(name for name in apart if name)
        by_name = {feature.name: feature for feature in schema.features}
        chosen = self._named or tuple(name for name in by_name if name not in self._apart)
        self.features = [by_name[name] for name in chosen if name in by_name]
        self._pairs = tuple(tuple(pair) for pair in pairs)
        among = {feature.name: feature for feature in self.features}
        self._products = [(among[a], among[b]) for a, b in self._pairs if a in among and b in among]
        self._intercept = intercept
        self.terms = list(islice(self._terms(), MOST_TERMS + 1))

    def _terms(self) -> Iterator[Term]:
        yield from [Term()] if self._intercept else []
        for feature in self.features:
            yield from (Term((factor,)) for factor in _factors(feature))
        for one, other in self._products:
            yield from (Term((factor, with_it)) for factor in _factors(one) for with_it in _factors(other))

    def objections(self) -> Iterator[str]:
        """Why these columns are no inputs."""
        names = [feature.name for feature in self._schema.features]
        for name in self._named:
            if name not in names:
                yield f"inputs: no column {name!r} in the schema{near(name, names)}"
            elif name in self._apart:
                yield f"inputs: {name!r} is the outcome, or has another part in the model"
        yield from twice("inputs", self._named)
        if not self.features:
            yield "inputs: no column is left to explain by"
        yield from self._objections_to_pairs()
        if len(self.terms) > MOST_TERMS:
            yield f"inputs: more than {MOST_TERMS} coefficients: name fewer columns"

    def _objections_to_pairs(self) -> Iterator[str]:
        """A product says nothing without its columns, each for itself: their coefficients would hang on where a range begins."""
        among = {feature.name: feature for feature in self.features}
        for pair in self._pairs:
            for name in pair:
                if name not in among:
                    yield f"interactions: {name!r} is not among the inputs{near(name, among)}"
            if len(set(pair)) == 1 and pair[0] in among and among[pair[0]].categories:
                yield f"interactions: {pair[0]!r} with itself; only a number has a square"
        yield from twice("interactions", (tuple(sorted(pair)) for pair in self._pairs))

    @property
    def squared(self) -> float:
        """The longest square there can be of a record's inputs: 1 for the intercept, for each column, and for each pair."""
        return float(len(self.features) + len(self._products) + self._intercept)

    def read(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """((n, terms) within -1 to 1, which records lack nothing); x as of `Analysis.vectors`."""
        columns, used = columns_of(x, self._schema), np.ones(len(x), bool)
        found: List[np.ndarray] = [np.ones((len(x), 1))] if self._intercept else []
        for feature in self.features:
            used &= present(columns[feature.name], feature)
        each = {feature.name: _indicators(columns[feature.name], feature) for feature in self.features}
        found += [each[feature.name] for feature in self.features]
        for one, other in self._products:
            both = each[one.name][:, :, np.newaxis] * each[other.name][:, np.newaxis, :]
            found.append(both.reshape(len(x), -1))
        return np.where(used[:, np.newaxis], np.concatenate(found, axis=1), 0.0), used


def to_units(terms: Sequence[Term]) -> np.ndarray:
    """float64 (terms, terms): makes coefficients of columns in their own units out of those over [-1, 1].

    A number is s v + t of its value v, so a product of numbers is a sum over those of some of them; the terms have all of these,
    but for a constant where they have no intercept.
    """
    places = {_key(term): number for number, term in enumerate(terms)}
    change = np.zeros((len(terms), len(terms)))
    for number, term in enumerate(terms):
        for size in range(len(term.factors) + 1):
            for kept in combinations(range(len(term.factors)), size):
                scale = 1.0
                for place, factor in enumerate(term.factors):
                    scale *= _line(factor)[0 if place in kept else 1]
                target = places.get(_key(Term(tuple(term.factors[place] for place in kept))))
                if target is not None:
                    change[target, number] += scale
    return change


def _key(term: Term) -> Tuple[str, ...]:
    return tuple(sorted(repr((factor.feature.name, factor.level)) for factor in term.factors))


def _line(factor: Factor) -> Tuple[float, float]:
    """(s, t): the factor is s v + t of a number's value v, or of an indicator."""
    if factor.level:
        return 1.0, 0.0
    low, high = factor.feature.scaled_range
    return 2 / (high - low), -1 - 2 * low / (high - low)


def _factors(feature: Feature) -> List[Factor]:
    return [Factor(feature, level) for level in feature.categories[1:]] or [Factor(feature)]


def _indicators(column: np.ndarray, feature: Feature) -> np.ndarray:
    return column[:, 1:] if feature.categories else column


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


def in_units(column: np.ndarray, feature: Feature) -> np.ndarray:
    """float64 (n,): a number of `columns_of` in the units the model sees, of which [-1, 1] is the range."""
    low, high = feature.scaled_range
    return np.asarray(low + (high - low) * (1.0 + column[:, 0]) / 2)


def number_of(option: str, name: str, schema: Schema) -> Tuple[Optional[Feature], str]:
    """(the number an option names, "") or (None, why it names none)."""
    by_name = {feature.name: feature for feature in schema.features}
    feature = by_name.get(name)
    if feature is None:
        return None, f"{option}: no column {name!r} in the schema{near(name, by_name)}"
    if feature.categories:
        return None, f"{option}: {name!r} has categories, expected a number"
    return feature, ""
