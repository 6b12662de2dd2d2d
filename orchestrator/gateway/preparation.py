"""What a run begins with: its noise planned, its training graph exported and checked, both stored with the first weights."""

import dataclasses
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from orchestrator.analyses.registry import analysis_of, scored_by, spelled_out
from orchestrator.errors import UsageError
from orchestrator.gateway.bundling import export
from orchestrator.gateway.config import weights_of
from orchestrator.gateway.personalization import plan_personal
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.run import open_run
from orchestrator.gateway.run_store import RunStore
from orchestrator.gateway.scored_file import model_of
from orchestrator.node.graph_check import check_graph
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.privacy.releases import work_of
from orchestrator.wire.stated import export_spec
from orchestrator.wire.task import Task, task_from_dict


def open_or_prepare(
    store: RunStore, run: str, task: Task, model: Dict[str, Any], out: Path, progress: Progress
) -> Tuple[Task, bytes]:
    """(task with its noise planned, training graph) of the stored run, or of one that is prepared and stored now.

    model: its declaration, with the path of a file resolved. What the export leaves is in OUT/work.
    """
    stored = store.find_run(run)
    if stored is not None:
        progress({"event": "continued", "run": run})
        return task_from_dict(stored[0], f"stored run {run}"), stored[1]
    if not task.trains:
        return _open_analysis(store, run, task, model.get("path"), progress)
    task, counted = _counted(task)
    planned, spent = plan_apart(task) if counted else (task, None)  # what cannot be promised needs no export
    work = out / "work"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)  # first weights, and rows for calibration
    work.chmod(0o700)
    spec = export_spec(task, model)
    prepared = export("prepare", spec, work, progress)
    check_graph((work / "training.tflite").read_bytes())  # nodes do the same, and would all decline
    if prepared["parameters"] != counted:  # a model that only its file describes
        planned, spent = plan_apart(_of_size(task, prepared["parameters"]))
    if task.privacy.on:
        progress({"event": "planned", "noise_multiplier": work_of(planned).noise_multiplier, "epsilon": spent})
    planned = plan_personal(planned, prepared["personal"])
    if task.training.cross_scored and not prepared["personal"].get("head"):
        raise UsageError(
            f"task {task.name!r}: strategy {task.training.strategy!r} keeps each node's output layer, and needs a model whose "
            "last layer is Dense with a bias; this one is not. Use another strategy, or another model"
        )
    return open_run(store, run, planned, (work / "training.tflite").read_bytes(), np.load(work / "weights.npy"))


def _open_analysis(
    store: RunStore, run: str, task: Task, path: Optional[Path], progress: Progress
) -> Tuple[Task, bytes]:
    """There is nothing to export: nodes know how to compute it. path: of the model file it scores by."""
    analysis, task = analysis_of(task), spelled_out(task)
    planned, spent = plan_apart(_of_size(task, analysis.sums.size))
    if task.privacy.on:
        progress({"event": "planned", "noise_multiplier": work_of(planned).noise_multiplier, "epsilon": spent})
    return open_run(store, run, planned, model_of(scored_by(task), path), analysis.begin(task.seed))


def _counted(task: Task) -> Tuple[Task, int]:
    """The task with the number of its model's weights, where that is known before the model is built; else 0."""
    parameters = weights_of(task)
    return _of_size(task, parameters), parameters


def _of_size(task: Task, parameters: int) -> Task:
    return dataclasses.replace(task, training=dataclasses.replace(task.training, parameters=parameters))
