"""The coder that a run of the analysis "hashing" came to, from its result.json."""

import json
from typing import Any

from orchestrator.analyses.codes import Coder, coder_of
from orchestrator.analyses.registry import KIND
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.structure import unstructure
from orchestrator.wire.task import Task

HASHING = "hashing"


def coder_of_result(task: Task, content: bytes, where: str) -> Coder:
    """UsageError for a task of another kind; DataError for a result that is not of this task, or has no coder."""
    if task.analysis.get(KIND) != HASHING:
        raise UsageError(f'task {task.name!r}: its analysis is not of kind "{HASHING}"')
    try:
        analysis: Any = json.loads(content)["analysis"]
        tables = {table["name"]: table for table in analysis["tables"]}
        rows = tables["coder"]["rows"]
        thresholds, weights = [row[1] for row in rows], [row[2:] for row in rows]
        notes = [str(note) for note in analysis["notes"]]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{where}: no result of an analysis of kind {HASHING!r} that came to a coder") from error
    said = {
        "schema": unstructure(task.schema),
        "outcome": task.analysis["outcome"],
        "inputs": list(task.analysis.get("inputs", ())),
        "weights": weights,
        "thresholds": thresholds,
    }
    coder = coder_of(said, where)
    if not any(coder.digest in note for note in notes):
        raise DataError(f"{where}: is of another schema, or of other inputs, than task {task.name!r}")
    return coder
