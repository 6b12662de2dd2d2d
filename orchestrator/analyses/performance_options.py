"""What a task says of an analysis of kind "performance"."""

from dataclasses import dataclass, field
from typing import Dict, Iterator, Tuple

from orchestrator.analyses.scored_model import NO_MODEL, ScoredModel
from orchestrator.analyses.signals import SIGNALS
from orchestrator.wire.schema import Schema

LATER = ("event", "model", "model.outputs", "model.numbers")
"""As of `Analysis.later`."""

ONE_OUTCOME = "of one outcome"
"""`Block.what` of what a model says of records with the same outcome. One name for all of them, so that these are compared
whichever is the event, and whatever classes are called.
"""


@dataclass(frozen=True)
class PerformanceOptions:
    """Of kind "performance". One of `score`, `coefficients` and `model`."""

    # column of categories, of which `event` is predicted, of two the second; of signals the schema's label [a column]
    outcome: str
    score: str = ""  # column with the score, a number; one within 0 and 1 is a probability [a column, or empty]
    # of a logistic model: "(intercept)", of a number by its unit, of a category for a level as "sex = m" [names = numbers]
    coefficients: Dict[str, float] = field(default_factory=dict)
    by: str = ""  # column with categories: figures of each, besides those of all [a column, or empty]
    bins: int = 100  # of equal width over the score's range; of all classes at once there are none [2 to 1000]
    # of the score; rounded to the edge of a bin; of a model .5 where none is named [numbers]
    thresholds: Tuple[float, ...] = ()
    # which category of the outcome is predicted, against all others; empty: the second of two, and by a model file all categories
    # of three and more at once [a category, or empty]
    event: str = ""
    # a bundle or a .tflite that is run on each record; its keys are below [a folder or a file, or a table]
    model: ScoredModel = NO_MODEL


def of_classes(schema: Schema, options: PerformanceOptions) -> bool:
    """Whether a model file is judged by all of its classes at once: the outcome has three categories or more, none is named."""
    return options.model != NO_MODEL and not options.event and len(categories_of(schema, options.outcome)) > 2


def objections_of_signals(schema: Schema, options: PerformanceOptions) -> Iterator[str]:
    """What makes no sense of signals, which have no columns but their label; nothing of a table."""
    if schema.kind != SIGNALS:
        return
    label = schema.features[0].name
    if options.outcome != label:
        yield f"outcome: {options.outcome!r}: of signals it is the schema's label, {label!r}"
    if options.by:
        yield f"by: {options.by!r}: a column, and signals have none: leave it out"
    for name, given in (("score", bool(options.score)), ("coefficients", bool(options.coefficients))):
        if given:
            yield f"{name}: of columns, and signals have none: leave it out"
    if options.model == NO_MODEL:
        yield "model: missing; of signals only a model's file can be judged: name a bundle, or a .tflite file"


def categories_of(schema: Schema, column: str) -> Tuple[str, ...]:
    """Of a column; () where it has none, or is not there."""
    return next((feature.categories for feature in schema.features if feature.name == column), ())
