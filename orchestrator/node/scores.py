"""Each record's score by a model file: floats in the process that graphs run in (node/graph_process.py), whole numbers here."""

import numpy as np

from orchestrator.analyses.base import Analysis
from orchestrator.analyses.scored_model import Scoring
from orchestrator.data.dataset import Dataset
from orchestrator.node.graph_admission import check_scored, checked_whole, of_whole_numbers
from orchestrator.node.graph_check import SCORES, check_model
from orchestrator.node.graph_process import GraphProcess, Limits, call_bytes

_PIECE_BYTES = 256 << 10
"""Of records that cross to the process at once."""


def with_scores(
    analysis: Analysis,
    model: bytes,
    data: Dataset,
    limits: Limits = Limits(),  # noqa: B008 (immutable)
) -> Dataset:
    """The data with each record's score behind its inputs (`Scoring.scores`); NaN also where a value is missing that the model
    takes, and that is no model of trees. Of signals their label is in the place of inputs, a 1 for its class among zeros. As they
    are where the analysis has no model. GraphError where the model fails.

    Every record is run by itself, and zeros in the place of one that lacks a value: how long it takes follows from how many
    there are.
    """
    if analysis.scored is None:
        return data
    if of_whole_numbers(analysis):
        found = _in_whole_numbers(model, analysis, analysis.scored, data.x)
    else:
        inputs, used = analysis.scored.inputs(data.x)
        found = np.where(used, _in_process(model, analysis, analysis.scored, inputs, limits), np.nan)
    columns = data.x
    if analysis.scored.of_signals:
        levels = np.arange(len(analysis.schema.features[0].categories))
        columns = (data.y[:, np.newaxis] == levels).astype(np.float64)
    return data._replace(x=np.column_stack([columns, found]))


def _in_whole_numbers(model: bytes, analysis: Analysis, scoring: Scoring, x: np.ndarray) -> np.ndarray:
    """float64 (n,): the score of each record. Inputs are in memory for some records at a time: of trees a column may be there for
    thousands of channels.
    """
    whole = checked_whole(model, analysis)
    found = [np.empty(0)]
    for rows in whole.pieces(x):
        inputs, used = scoring.inputs(rows)
        found.append(np.where(used, scoring.scores(whole.run(inputs)), np.nan))
    return np.concatenate(found)


def _in_process(model: bytes, analysis: Analysis, scoring: Scoring, inputs: np.ndarray, limits: Limits) -> np.ndarray:
    """float64 (n,): the score of each record, by a float model in a process of its own."""
    checked = check_model(model)
    check_scored(checked, analysis)
    piece = max(1, _PIECE_BYTES // call_bytes(checked.functions[SCORES]))
    found = np.full(len(inputs), np.nan)
    process = GraphProcess(checked, limits)
    try:
        for start in range(0, len(inputs), piece):
            rows = inputs[start : start + piece, np.newaxis]
            answers = process.run(SCORES, np.zeros(1, np.float32), rows)
            found[start : start + piece] = scoring.scores(answers[:, 0])
    finally:
        process.close()
    return found
