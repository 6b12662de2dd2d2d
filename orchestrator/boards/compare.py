"""The two engines beside each other on this machine: does a model give the same bits in engine/direct as in TFLM?"""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np

from model_export.model_bin import ModelBin
from model_export.plan import PlanError, compile_plan
from model_export.synthetic_rows import ROWS, synthetic_rows
from model_export.tflm import TflmModel
from orchestrator.boards.host_engine import HostBuildError, build, run_plan
from orchestrator.errors import EdgewardError


def compare_engines(tflite: bytes, packed: Optional[ModelBin]) -> Dict[str, Any]:
    """{rows, direct_skipped}: synthetic rows in TFLM, and in engine/direct on this machine by the plan a board would run.

    direct_skipped says why the second could not be. Raises EdgewardError where the engines differ.
    """
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
