"""The schema of a task: what a record has, public ranges and categories, and what is to be learned."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, Iterator, List, Optional, Tuple

from orchestrator.wire.bounds import count, near, refuse, twice, within
from orchestrator.wire.sizes import too_large
from orchestrator.wire.targets.base import Declared, Target
from orchestrator.wire.targets.registry import objections, target_of

LEAST_OF_LOG = 1e-30
"""Least minimum of a column with a logarithm."""


@dataclass(frozen=True)
class Feature:
    """One column of a table: a number with its range, or a category.

    The range is public knowledge, never read off the data, and has no default: values beyond it are clamped, and a node tells its
    owner how many are.
    """

    name: str  # the column [text without spaces around it]
    # least value there can be, whatever the data; public; needed for a number [-1e30 to 1e30, below maximum]
    minimum: Optional[float] = None
    maximum: Optional[float] = None  # largest value there can be, likewise [-1e30 to 1e30, above minimum]
    # values of a category, one-hot instead of a number; any other value is an error [none, or two or more texts]
    categories: Tuple[str, ...] = ()
    # "log": the model sees the natural logarithm, for values that span powers of ten; the minimum is above 0 ["log", or left out]
    transform: Optional[str] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        refuse(f"feature {self.name!r}: {line}" for line in self._wrong())

    def _wrong(self) -> Iterator[str]:
        given = [value for value in (self.minimum, self.maximum) if value is not None]
        if self.categories and given:
            yield "has a range and categories; it is either a number or a category"
        elif not self.categories and len(given) < 2:
            yield (
                "minimum and maximum are needed, the range such a value can have whatever the data (such as minimum = 0, "
                "maximum = 120 for an age in years), or categories"
            )
        elif not all(math.isfinite(value) for value in given):
            yield "minimum and maximum must be finite numbers"
        elif given and not given[0] < given[1]:
            yield f"minimum {given[0]} is not below maximum {given[1]}"
        if self.transform not in (None, "log"):
            yield f"transform {self.transform!r}, expected 'log', or left out{near(self.transform, ('log',))}"
        elif self.transform and (self.categories or (self.minimum is not None and not self.minimum >= LEAST_OF_LOG)):
            yield (
                f"transform 'log' needs a number with a minimum above 0 ({LEAST_OF_LOG:g} or more): values below it, zero "
                "included, count as the minimum"
            )

    @property
    def width(self) -> int:
        return len(self.categories) or 1

    @property
    def range(self) -> Tuple[float, float]:
        """(minimum, maximum) of a number."""
        assert self.minimum is not None
        assert self.maximum is not None
        return self.minimum, self.maximum

    @property
    def scaled_range(self) -> Tuple[float, float]:
        """`range` in the units the model sees."""
        low, high = self.range
        return (math.log(low), math.log(high)) if self.transform else (low, high)


@dataclass(frozen=True)
class Schema:
    """The data every node must have.

    `table`: CSV, one record a row, `features` by column name. `signal`: .npz with `x` (n, samples) or
    (n, samples, channels) and the label array, divided by `unit_scale`.
    """

    kind: str  # a CSV file, or an .npz with x (records, samples[, channels]) [table, signal]
    # column (table) or array (signal) with what is to be learned [text; with an analysis of a table left out]
    label: str
    # names of the classes, in the order of the model's outputs [two or more texts; with an analysis or a target left out]
    classes: Tuple[str, ...]
    # value in the file -> index of its class; a value that is not listed is an error [value = index of a class; with an analysis
    # or a target left out]
    label_values: Dict[str, int]
    # columns that are the model's input, in this order [of a table: one or more tables]
    features: Tuple[Feature, ...] = ()
    # names of the columns of a CSV file without a header line [texts, or none where there is a header]
    columns: Tuple[str, ...] = ()
    missing_markers: Tuple[str, ...] = ("", "?", "NA", "nan", "NaN")  # what stands for a value that is missing [texts]
    # numbers by the federation's mean and deviation, which takes a release; or by their public ranges [federated, range]
    standardization: str = "federated"
    drop_missing: bool = False  # leave out rows that lack a used value; otherwise they are an error [true, false]
    samples: int = 0  # length of a signal [1 to 1048576]
    channels: int = 1  # channels of a signal [1 to 1048576]
    unit_scale: float = 1.0  # what a signal's numbers are divided by [other than 0, up to 1e30]
    # column or array that says whose record it is, in every record; needed for privacy.unit "patient" [text, or empty]
    patient: str = ""
    # what is learned in place of classes, such as a number; its kinds are below; left out: classes [a table]
    target: Dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        if self.kind not in ("table", "signal"):
            yield f"kind {self.kind!r}: expected 'table' or 'signal'{near(self.kind, ('table', 'signal'))}"
        if self.standardization not in ("federated", "range"):
            yield (
                f"standardization {self.standardization!r}: expected 'federated' or 'range'"
                f"{near(self.standardization, ('federated', 'range'))}"
            )
        wrong = [f"target.{line}" for line in objections(self)] if self.target else []
        yield from wrong
        if self.target:
            yield from self._beside_target()
        elif self.labelled:
            yield from self._label()
        if self.kind == "table" and not self.features:
            yield "features: a table needs at least one"
        names = [f.name for f in self.features]
        yield from twice("features", names)
        if self.columns and not wrong:
            wanted = [*names, *(name for name in (*self.learned.columns, self.patient) if name)]
            lacking = [n for n in wanted if n not in self.columns]
            if lacking:
                yield f"columns: {', '.join(lacking)} not among them"
        yield from too_large(self)
        yield from count("samples", self.samples, int(self.kind == "signal"), 1 << 20)
        yield from count("channels", self.channels, 1, 1 << 20)
        yield from within("unit_scale", abs(self.unit_scale), 1e-30, 1e30, "a number other than 0, up to 1e30")

    def _label(self) -> Iterator[str]:
        if not self.label:
            yield "label: missing; it names the column with what is to be learned"
        if len(self.classes) < 2:
            yield "classes: at least two are needed"
        bad = {v: i for v, i in self.label_values.items() if not 0 <= i < len(self.classes)}
        if bad or not self.label_values:
            yield f"label_values {bad or '{}'}: class indices run from 0 to {len(self.classes) - 1}"

    def _beside_target(self) -> Iterator[str]:
        for name in ("classes", "label_values"):
            if getattr(self, name):
                yield f"{name}: of classes, and target {self.target.get('kind')!r} has none: leave it out"

    @property
    def labelled(self) -> bool:
        """Whether data files say what is to be learned."""
        if self.target:
            return any(self.learned.columns)
        return bool(self.label or self.classes or self.label_values)

    @cached_property
    def learned(self) -> Target:
        """What is to be learned of each record."""
        return target_of(self)

    @property
    def declared(self) -> Optional[Declared]:
        """The same where `target` declares it; None where classes are learned."""
        return self.learned if isinstance(self.learned, Declared) else None

    @property
    def input_shape(self) -> Tuple[int, ...]:
        if self.kind == "signal":
            return (self.samples, self.channels)
        return (sum(f.width for f in self.features),)

    def numbers(self) -> List[Tuple[int, Feature]]:
        """(input column, feature) of the features that are numbers, hence standardized."""
        out, column = [], 0
        for feature in self.features:
            if not feature.categories:
                out.append((column, feature))
            column += feature.width
        return out
