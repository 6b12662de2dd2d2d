"""Signals as an analysis sees them: records of one column, which is the label, and the score that a model file gives each."""

from dataclasses import replace

from orchestrator.wire.schema import Feature, Schema

SIGNALS = "signal"
"""`Schema.kind` of signals."""

ARRAY = "x"
"""What a score is of, in place of columns: so the answers to all tasks about a node's signals are compared with each other."""

LABEL = "label"
"""What the outcome is called there: of a source without arrays a task may call it anything."""


def labelled_column(schema: Schema) -> Schema:
    """The schema of signals that have a label, with this as its one column, whose categories are the classes; shapes stay."""
    label = Feature(schema.label, categories=schema.classes)
    return replace(schema, label="", classes=(), label_values={}, columns=(), features=(label,))
