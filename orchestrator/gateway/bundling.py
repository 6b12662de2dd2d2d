"""From trained weights to a bundle: float model, int8 model, model.bin and manifest, made by the exporter's own process.

OUT/work and OUT/evaluation hold rows of data: these are their owner's alone, and no bundle has them.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from model_export.client import run_worker
from model_export.errors import ExportError
from orchestrator.errors import EdgewardError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.calibration import Calibration, quantization_rows
from orchestrator.gateway.evaluation import EvaluationSet, probabilities_of, score
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.run import Trained
from orchestrator.privacy.standardization import standardize
from orchestrator.privacy.statement_page import markdown
from orchestrator.wire.process import ends_with
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, plain_data

EVALUATION = "evaluation"
"""Folder below OUT with rows of the data; never part of a bundle."""


def export(verb: str, spec: Dict[str, Any], out: Path, progress: Progress) -> Dict[str, Any]:
    """Asks the exporter's process; its files are in `out`, its lines go to `progress`. Raises EdgewardError."""
    try:
        # A worker that outlived a killed gateway would write into the same folder as the next one's.
        first = ends_with(os.getpid())
        return run_worker(verb, spec, out, lambda line: progress({"event": "export", "message": line}), first)
    except ExportError as error:
        raise EdgewardError(str(error)) from error


def quantize(
    task: Task,
    model: Dict[str, Any],
    trained: Trained,
    rows: Optional[EvaluationSet],
    calibration: Optional[Calibration],
    claim: Dict[str, Any],
    out: Path,
    progress: Progress,
    authority: Optional[Authority] = None,
) -> Dict[str, Any]:
    """Writes OUT/bundle with the worker; returns metrics, arena and the bundle's path.

    No row of `rows` or `calibration` goes into the bundle: of rows it has figures, of calibration the int8 ranges, and deciles
    where it is public. What the engines gave for `rows` is left in OUT/evaluation, for its owner alone.
    """
    shape = task.schema.input_shape
    mean, std = trained.mean.reshape(shape), trained.std.reshape(shape)
    work = out / "work" / "rows"
    _make_private(work)
    inputs, reference, origin = quantization_rows(task, mean, std, calibration)
    np.save(work / "trained.npy", trained.weights)
    np.save(work / "representative.npy", inputs)
    spec: Dict[str, Any] = {
        "model": model,
        "name": task.name,
        "input_shape": list(shape),
        "classes": len(task.schema.classes),
        "weights": str((work / "trained.npy").resolve()),
        "representative": str((work / "representative.npy").resolve()),
        "reference": None,
        "origin": origin,
        "labels": list(task.schema.classes),
        "features": describe_features(task.schema, mean, std),
        "data_schema": plain_data(task.schema),
        "privacy": claim,
        "privacy_page": markdown(claim),
    }
    if reference is not None:
        np.save(work / "reference.npy", reference)
        spec["reference"] = str((work / "reference.npy").resolve())
    if rows is not None:
        np.save(work / "evaluation_x.npy", standardize(rows.x, mean, std))
        np.save(work / "evaluation_y.npy", rows.y)
        spec["evaluation"] = {key: str((work / f"evaluation_{key}.npy").resolve()) for key in "xy"}
        spec["evaluation"]["outputs"] = str((out / EVALUATION).resolve())
    if authority is not None:
        spec["signing_key"] = str(authority.signing_key.resolve())
    try:
        bundled = export("bundle", spec, out / "bundle", progress)
    finally:
        shutil.rmtree(work)
    answer: Dict[str, Any] = {
        "bundle": str(out / "bundle"),
        "arena": bundled["arena"],
        "digest": bundled["model_digest"],
    }
    if rows is not None:
        answer["metrics"] = _metrics(out / EVALUATION, rows, task.schema.classes)
    return answer


def _make_private(folder: Path) -> None:
    """An empty folder that its owner alone may open."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)


def _metrics(folder: Path, rows: EvaluationSet, classes: Sequence[str]) -> Dict[str, Any]:
    """{float, int8, tflm: evaluation.score} from the outputs the worker left."""
    outputs = {
        "float": np.load(folder / "float_probs.npy"),
        "int8": np.load(folder / "int8_probs.npy"),
        "tflm": probabilities_of(np.load(folder / "tflm_outputs.npy")),
    }
    return {engine: score(rows.y, found, rows.groups, classes) for engine, found in outputs.items()}


def describe_features(schema: Schema, mean: np.ndarray, std: np.ndarray) -> List[Dict[str, Any]]:
    """One entry for each input on the last axis: how raw values become model inputs."""
    if schema.kind == "signal":
        # The data files hold counts; the model sees counts / unit_scale.
        return [{"name": f"channel_{i}", "mean": 0.0, "std": float(schema.unit_scale)} for i in range(schema.channels)]
    named = [
        {"name": name, **_transform(feature)}
        for feature in schema.features
        for name in ([f"{feature.name}={c}" for c in feature.categories] or [feature.name])
    ]
    return [{**entry, "mean": float(m), "std": float(s)} for entry, m, s in zip(named, mean, std)]


def _transform(feature: Feature) -> Dict[str, Any]:
    """What a board has to know of a column whose logarithm is taken."""
    if not feature.transform:
        return {}
    least, most = feature.range
    return {"transform": feature.transform, "minimum": float(least), "maximum": float(most)}
