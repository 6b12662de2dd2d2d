"""Personal parts (FedPer, Arivazhagan et al. 2019): the last values of the weights stay on each node.

The gateway plans how many they are, and makes no bundle: its own last layer was never trained. A node's owner makes one from
the file the node leaves, STATE/personal-RUN.npz, on a machine with TensorFlow.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

from model_export.array_files import open_archive
from model_export.errors import ArrayFileError
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import GivenError, UsageError
from orchestrator.gateway.bundling import quantize
from orchestrator.gateway.calibration import Calibration
from orchestrator.gateway.run import Trained
from orchestrator.privacy.accounting_process import statement_apart
from orchestrator.wire.json_text import from_json
from orchestrator.wire.task import Task, task_from_dict
from orchestrator.wire.training import PERSONAL

NO_BUNDLE = (
    "the output layer is personal and was trained on the nodes only, so the gateway's weights make no whole model; each node "
    "keeps its own in STATE/personal-RUN.npz, and `edgeward model personalize` makes a bundle of that"
)
_PARTS = ("weights", "mean", "std", "task", "node", "records", "run")


def plan_personal(task: Task, sizes: Mapping[str, int]) -> Task:
    """The task with the number of personal values, from the worker's sizes of the output layer."""
    part = task.training.personal
    if part == "none":
        return task
    if not sizes.get(part):
        raise UsageError(
            f"task {task.name!r}: training.personal = {part!r} needs a model whose last layer is Dense with a bias; this one is "
            "not. Use personal = 'none', or another model"
        )
    return replace(task, training=replace(task.training, personal_parameters=sizes[part]))


def read_personal(path: Path) -> Dict[str, Any]:
    """{weights, mean, std: float32; task: Task; node, run: str; records: int} of a node's file; EdgewardError otherwise."""
    try:
        with path.open("rb") as file, open_archive(file) as archive:
            lacking = [name for name in _PARTS if name not in archive.names]
            if lacking:
                raise GivenError(f"{path}: is no node's personal model: it lacks {', '.join(lacking)}")
            parts = {name: archive[name] for name in _PARTS}
    except OSError as error:
        raise GivenError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ArrayFileError as error:
        raise GivenError(f"{path}: is no .npz file of a node: {error}") from error
    try:
        task = task_from_dict(from_json(str(parts["task"])), f"{path}: task")
    except ValueError as error:
        raise GivenError(f"{path}: the task in it is no JSON: {error}") from error
    for name, dimensions in (
        ("weights", 1),
        ("mean", len(task.schema.input_shape)),
        ("std", len(task.schema.input_shape)),
    ):
        array = parts[name]
        if array.dtype.kind not in "iuf" or array.ndim != dimensions or not np.isfinite(array).all():
            raise GivenError(
                f"{path}: is no node's personal model: {name} is {array.dtype} {array.shape}, or not finite"
            )
        parts[name] = array.astype(np.float32)
    for name in ("mean", "std"):
        if parts[name].shape != task.schema.input_shape:
            raise GivenError(
                f"{path}: is no node's personal model: {name} is {parts[name].shape}, the task's input {task.schema.input_shape}"
            )
    if parts["records"].shape != () or parts["records"].dtype.kind not in "iu":
        raise GivenError(f"{path}: is no node's personal model: records is no whole number")
    return {
        **parts,
        "task": task,
        "node": str(parts["node"]),
        "run": str(parts["run"]),
        "records": int(parts["records"]),
    }


def personalize(
    path: Path, out: Path, progress: Any, calibration: Optional[Path] = None, model_file: Optional[Path] = None
) -> Dict[str, Any]:
    """Writes OUT/bundle from a node's file; returns {bundle, digest, arena, run, node}.

    calibration: data in the task's schema that sets the int8 ranges; without it tables use the federated statistics.
    model_file: the .keras file, for tasks whose model is one.
    """
    parts = read_personal(path)
    task: Task = parts["task"]
    model = dict(task.model)
    if model.get("kind") == "keras":
        if model_file is None:
            raise UsageError(
                f"{path}: the task's model is a file of the gateway's ({model.get('path')}): give it with --model"
            )
        model["path"] = str(model_file.resolve())
    if task.schema.kind == "signal" and calibration is None:
        raise UsageError(f"{path}: a model of signals needs --calibration DATA.npz, rows that set its int8 ranges")
    rows = Calibration(load_dataset(calibration, task.schema).x) if calibration is not None else None
    claim = statement_apart(task, {parts["node"]: parts["records"]})
    claim["personal"] = (
        f"{PERSONAL[task.training.personal]} of node {parts['node']}: never sent. With privacy on it was trained with the "
        "same clipped and noised gradients, so the claim holds for it as well."
    )
    out.mkdir(parents=True, exist_ok=True)
    trained = Trained(parts["weights"], parts["mean"], parts["std"])
    made = quantize(task, model, trained, None, rows, claim, out, progress)
    return {**made, "run": parts["run"], "node": parts["node"]}
