"""The rows a model.bin carries with what TFLM answered, for a board to check itself with before it uses the model.

Of a model with state the rows follow each other in time, from the initial state: their order is part of the answers.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.known_rows import fair_rows
from model_export.model_bin import KnownAnswers
from model_export.synthetic_rows import choose_rows, inner_ends, synthetic_rows, telling_rows
from model_export.tflm import TflmModel, check_rows

KNOWN_ANSWER_ROWS = 4
ROWS_OFFERED = 32
SEQUENCES = 6
"""Synthetic ones that are tried of a model with state."""
SEQUENCE_BYTES = 8192
"""Of the rows of a sequence; KNOWN_ANSWER_ROWS of them however large they are, and at most ROWS_OFFERED."""


def known_answers_of(model: TflmModel, tflite: bytes, rows: Optional[np.ndarray]) -> Tuple[KnownAnswers, str]:
    """Answers for rows a correct board cannot fail at, and where they come from: the caller's rows, else synthetic ones."""
    if model.state_bytes:
        return _answers_in_time(model, tflite, rows)
    if rows is not None and len(rows):
        offered = check_rows(rows, model.input.shape)[:ROWS_OFFERED]
        inputs = offered[fair_rows(model, tflite, offered)][:KNOWN_ANSWER_ROWS]
        if len(inputs):
            return _answers(inputs, model.run(inputs)), "rows the caller gave"
    inputs, outputs = telling_rows(model)
    fair = fair_rows(model, tflite, inputs)
    inputs, outputs = inputs[fair], outputs[fair]
    if not len(inputs):
        raise ExportError(
            "no row found on which TFLM's two ways of rounding a dense layer agree; give other known_rows"
        )
    chosen = choose_rows(outputs, KNOWN_ANSWER_ROWS, inner_ends(model, inputs))
    return _answers(inputs[chosen], outputs[chosen]), "synthetic: drawn over the int8 range from a fixed seed"


def _answers_in_time(model: TflmModel, tflite: bytes, rows: Optional[np.ndarray]) -> Tuple[KnownAnswers, str]:
    """Of a model with state: rows that follow each other, up to the first that is not fair; the caller's where that is not the
    first, else the longest of a few synthetic sequences.
    """
    count = max(KNOWN_ANSWER_ROWS, min(ROWS_OFFERED, SEQUENCE_BYTES // int(np.prod(model.input.shape))))
    if rows is not None and len(rows):
        given = [check_rows(rows, model.input.shape)[:count]]
        inputs, outputs = _fair_beginning(model, tflite, given)
        if len(inputs):
            return _answers(inputs, outputs), "rows the caller gave, one after another from the initial state"
    drawn = synthetic_rows(model.input, SEQUENCES * count).reshape(SEQUENCES, count, *model.input.shape[1:])
    inputs, outputs = _fair_beginning(model, tflite, list(drawn))
    if not len(inputs):
        raise ExportError(
            "no row found on which TFLM's two ways of rounding a dense layer agree; give other known_rows"
        )
    said = "synthetic: drawn over the int8 range from a fixed seed, one after another from the initial state"
    return _answers(inputs, outputs), said


def _fair_beginning(model: TflmModel, tflite: bytes, sequences: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """(inputs, outputs) of the sequence that is fair for longest, as far as it is; of as long ones that with most answers."""
    found = []
    for sequence in sequences:
        fair = fair_rows(model, tflite, sequence)
        length = len(fair) if fair.all() else int(np.argmin(fair))
        outputs = model.run(sequence[:length])
        found.append(((length, len(np.unique(outputs))), sequence[:length], outputs))
    _, inputs, outputs = max(found, key=lambda one: one[0])
    return inputs, outputs


def _answers(inputs: np.ndarray, outputs: np.ndarray) -> KnownAnswers:
    return KnownAnswers(inputs.reshape(len(inputs), -1), outputs.reshape(len(outputs), -1))
