"""A model file by which an analysis scores records: what a task says of it. The file travels beside the task, as graphs do."""

import math
import re
from dataclasses import dataclass
from typing import Callable, Iterator, List, NamedTuple, Tuple

import numpy as np

from orchestrator.analyses.signals import ARRAY, LABEL, SIGNALS
from orchestrator.wire.bounds import count, near, one_of, twice
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema

MOST_MODEL_BYTES = 64 << 20
MOST_OUTPUTS = 1 << 16
FLOAT, INT8, TREES = NUMBERS = ("float", "int8", "trees")
MOST_NAMED = 5
"""Columns that are shown to an owner here; all are in the declaration."""


@dataclass(frozen=True)
class ScoredModel:
    """`[task.analysis.model]`; the name of a file in its place is `file` alone."""

    file: str = ""  # a bundle, or a .tflite of one model [a folder or a file]
    sha256: str = ""  # of the model's bytes [set by the gateway]
    size: int = 0  # of the model, in bytes [set by the gateway]
    # columns that it takes, in this order; none: all but the outcome; of a bundle left out; of trees a column for each channel
    # [columns]
    inputs: Tuple[str, ...] = ()
    # what is subtracted from each input before the model; none: 0; of a bundle left out [numbers, one for each input]
    mean: Tuple[float, ...] = ()
    # what each is then divided by; none: 1; of a bundle left out [numbers above 0, one for each input]
    std: Tuple[float, ...] = ()
    output: int = 0  # which of its outputs is the score; needed of three and more, of two it is 1 [0 or more]
    numbers: str = "float"  # in which it computes: of a bundle which of its models is run [float, int8, trees]
    # of all classes at once: which output is of each category of the outcome; none: in their order; of a bundle left out
    # [whole numbers from 0, one for each category]
    outputs: Tuple[int, ...] = ()


NO_MODEL = ScoredModel()


class Scoring(NamedTuple):
    """A model file over the columns of one schema, of which one is the outcome."""

    model: ScoredModel
    schema: Schema
    outcome: str

    @property
    def features(self) -> List[Feature]:
        """The columns it takes, in its order, as far as the schema has them."""
        by_name = {feature.name: feature for feature in self.schema.features}
        names = self.model.inputs or [name for name in by_name if name != self.outcome]
        return [by_name[name] for name in dict.fromkeys(names) if name in by_name]

    @property
    def of_trees(self) -> bool:
        """Whether the model is one of trees, for which values may be missing."""
        return self.model.numbers == TREES

    @property
    def width(self) -> int:
        """How many numbers it takes of a record: of trees one for each channel."""
        if self.of_trees:
            return len(self.model.inputs)
        return sum(feature.width for feature in self.features)

    @property
    def of_signals(self) -> bool:
        """Whether a record is a signal, which it takes whole."""
        return self.schema.kind == SIGNALS

    @property
    def shape(self) -> Tuple[int, ...]:
        """Of a record as it takes it: `width`, or samples and channels."""
        return self.schema.input_shape if self.of_signals else (self.width,)

    @property
    def columns(self) -> Tuple[str, ...]:
        """What its scores are of, as blocks name it; of signals ARRAY."""
        return (ARRAY,) if self.of_signals else tuple(feature.name for feature in self.features)

    @property
    def truth(self) -> str:
        """The outcome, as blocks name it; of signals LABEL."""
        return LABEL if self.of_signals else self.outcome

    def _objections_of_signals(self) -> Iterator[str]:
        model = self.model
        if model.inputs:
            yield "model.inputs: of columns, and a signal has none: leave it out"
        for name, numbers in (("mean", model.mean), ("std", model.std)):
            if numbers:
                yield f"model.{name}: of columns, and a signal is divided by the schema's unit_scale alone: leave it out"
        if model.numbers in (INT8, TREES):
            yield f"model.numbers: {model.numbers!r}, and of signals nodes run float models alone: name the float model"

    def objections(self) -> Iterator[str]:
        """Why no record of this schema can be scored by it."""
        yield from self._objections_of_signals() if self.of_signals else self._objections_of_columns()
        model = self.model
        if not re.fullmatch("[0-9a-f]{64}", model.sha256):
            yield "model.sha256: expected 64 hexadecimal digits"
        yield from one_of("model.numbers", model.numbers, NUMBERS)
        yield from count("model.size", model.size, 1, MOST_MODEL_BYTES)
        yield from count("model.output", model.output, 0, 1 << 16)
        if len(model.outputs) > MOST_OUTPUTS:
            yield f"model.outputs: {len(model.outputs)}, at most {MOST_OUTPUTS}"

    def _objections_of_columns(self) -> Iterator[str]:
        model, known = self.model, [feature.name for feature in self.schema.features]
        for name in model.inputs:
            if name not in known:
                yield f"model.inputs: no column {name!r} in the schema{near(name, known)}"
            elif name == self.outcome:
                yield f"model.inputs: {name!r} is the outcome"
        if self.of_trees:
            yield from () if model.inputs else ("model.inputs: none; of trees there is a column for each channel",)
            yield from () if not (model.mean or model.std) else ("model.mean and std: trees take values as they are",)
        else:
            yield from twice("model.inputs", model.inputs)
        for name, numbers in (("mean", model.mean), ("std", model.std)):
            if numbers and len(numbers) != self.width:
                yield f"model.{name}: {len(numbers)} numbers, and the model's columns are {self.width} inputs"
        if not all(math.isfinite(value) and abs(value) <= 1e30 for value in model.mean):
            yield "model.mean: expected numbers up to 1e30"
        if not all(1e-30 <= value <= 1e30 for value in model.std):
            yield "model.std: expected numbers from 1e-30 to 1e30"

    def lacks(self, outputs: int) -> str:
        """Why a model of so many outputs is not the one that is meant; "" where it may be."""
        model = self.model
        if model.outputs and len(model.outputs) != outputs:
            return f"{many(outputs, 'output')}, and {self.outcome!r} has {len(model.outputs)} categories"
        if model.output >= outputs:
            return f"{many(outputs, 'output')}, the task counts number {model.output} from 0"
        return ""

    def scores(self, answers: np.ndarray) -> np.ndarray:
        """float64 (n,): the score within 0 and 1 of answers (n, outputs), or the place of the category that they name, which is
        that of the largest output, of equal ones the first of the model's. NaN where what decides is no finite number.
        """
        model = self.model
        wanted = answers if model.outputs else answers[:, [model.output]]
        known = np.isfinite(wanted).all(axis=1)
        wanted = np.where(known[:, np.newaxis], wanted, 0.0)
        found = np.argsort(model.outputs)[wanted.argmax(axis=1)] if model.outputs else np.clip(wanted[:, 0], 0.0, 1.0)
        return np.where(known, found.astype(np.float64), np.nan)

    def words(self, quoted: Callable[[str], str]) -> str:
        """What is run on what, for owners."""
        model, names = self.model, [feature.name for feature in self.features]
        named = ", ".join(map(quoted, names[:MOST_NAMED]))
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        file = f"the file {quoted(model.file)}, {model.size} bytes, SHA-256 {model.sha256},"
        if self.of_signals:
            samples, channels = self.shape
            return f"{file} is run on each signal, of {many(samples, 'sample')} and {many(channels, 'channel')}"
        whole = {INT8: ", in whole numbers (int8),", TREES: ", trees in whole numbers,"}.get(model.numbers, "")
        return f"{file} is run{whole} on {named}{more} of each record"

    def inputs(self, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(float32 (n, *shape) as the model takes them, which records it scores); x as of `Analysis.vectors`, or of signals.

        It scores those that lack no value; trees score all, and take the place of a category and NaN for a missing value.
        """
        if self.of_signals:
            return x.astype(np.float32, copy=False), np.ones(len(x), bool)
        starts, column = {}, 0
        for feature in self.schema.features:
            starts[feature.name] = column
            column += feature.width
        used = np.ones(len(x), bool)
        if self.of_trees:
            columns = {
                feature.name: _value(x[:, starts[feature.name] : starts[feature.name] + feature.width], feature)
                for feature in self.features
            }
            return np.stack([columns[name] for name in self.model.inputs], axis=1), used
        for feature in self.features:
            values = x[:, starts[feature.name] : starts[feature.name] + feature.width]
            used &= values.sum(axis=1) > 0.5 if feature.categories else ~np.isnan(values[:, 0])
        places = [starts[feature.name] + at for feature in self.features for at in range(feature.width)]
        raw = np.where(used[:, np.newaxis], x[:, places], 0.0).astype(np.float32)
        mean = np.asarray(self.model.mean or [0.0], np.float32)
        std = np.asarray(self.model.std or [1.0], np.float32)
        with np.errstate(over="ignore"):  # what becomes infinite gives no number, or one within 0 and 1
            return ((raw - mean) / std).astype(np.float32), used


def _value(cells: np.ndarray, feature: Feature) -> np.ndarray:
    """float32 (n,): the number of a column, or the place of its category; NaN where it is missing."""
    if not feature.categories:
        return np.asarray(cells[:, 0], np.float32)
    return np.where(cells.sum(axis=1) > 0.5, cells.argmax(axis=1), np.nan).astype(np.float32)
