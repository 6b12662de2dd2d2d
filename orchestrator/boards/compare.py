"""The two engines beside each other on this machine: does a model give the same bits in engine/direct as in TFLM?"""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np

from model_export import trees_rows
from model_export.model_bin import ModelBin
from model_export.plan import compile_plan
from model_export.plan_steps import PlanError
from model_export.synthetic_rows import ROWS, synthetic_rows
from model_export.tflm import TflmModel
from model_export.trees import is_trees, parse_trees, run_trees
from orchestrator.boards.host_engine import HostBuildError, build, run_plan
from orchestrator.errors import EdgewardError


def compare_engines(tflite: bytes, packed: Optional[ModelBin]) -> Dict[str, Any]:
    """{rows, direct_skipped}: synthetic rows in TFLM, and in engine/direct on this machine by the plan a board would run.

    Of trees: in the reference in Python, and in engine/trees.

    direct_skipped says why the second could not be. Raises EdgewardError where the engines differ.
    """
    if is_trees(tflite):
        return _compare_trees(tflite)
    model = TflmModel(tflite)
    rows = synthetic_rows(model.input, ROWS)
    expected = model.run(rows).reshape(len(rows), -1)
    try:
        plan = compile_plan(tflite).blob if packed is None else packed.plan
        if plan is not None:
            build("run-direct")
    except PlanError as error:
        return {"rows": len(rows), "direct_skipped": str(error)}
    except HostBuildError as error:
        return {"rows": len(rows), "direct_skipped": str(error).splitlines()[0]}
    if plan is None:
        return {"rows": len(rows), "direct_skipped": "model.bin has no plan for it"}
    differs = (run_plan(tflite, plan, rows).reshape(len(rows), -1) != expected).any(axis=1)
    if differs.any():
        first = int(np.flatnonzero(differs)[0])
        raise EdgewardError(
            f"engine/direct differs from TFLM in {int(differs.sum())} of {len(rows)} synthetic rows, first in row {first}: "
            "a board with engine/direct would give wrong numbers; export the model again with this version"
        )
    return {"rows": len(rows), "direct_skipped": None}


def _compare_trees(blob: bytes) -> Dict[str, Any]:
    """The same of a model of trees: the reference in Python, and engine/trees on this machine."""
    model = parse_trees(blob)
    rows = trees_rows.synthetic_rows(model, ROWS)
    expected = run_trees(model, rows)
    try:
        build("run-direct")
    except HostBuildError as error:
        return {"rows": len(rows), "direct_skipped": str(error).splitlines()[0]}
    differs = (run_plan(blob, b"", rows).reshape(expected.shape) != expected).any(axis=1)
    if differs.any():
        raise EdgewardError(
            f"engine/trees differs from the reference in {int(differs.sum())} of {len(rows)} synthetic rows, first in row "
            f"{int(np.flatnonzero(differs)[0])}: a board would give wrong numbers; export the model again with this version"
        )
    return {"rows": len(rows), "direct_skipped": None}
