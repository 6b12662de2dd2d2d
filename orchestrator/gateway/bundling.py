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
from model_export.heads import mean_and_spread
from model_export.manifest import read_manifest
from orchestrator.errors import EdgewardError
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.calibration import Calibration, quantization_rows
from orchestrator.gateway.evaluation import EvaluationSet, judge
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.run import Trained
from orchestrator.privacy.standardization import standardize
from orchestrator.privacy.statement_page import markdown
from orchestrator.wire.plain import many
from orchestrator.wire.process import ends_with
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Task, plain_data

EVALUATION = "evaluation"
"""Folder below OUT with rows of the data; never part of a bundle."""

NO_THRESHOLD = (
    "without a threshold: the records held out are too few for the quantile, or noise hides it; hold more out, choose a lower "
    "quantile, or name rows of your own in [evaluation]"
)


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
    evaluated: Sequence[Dict[str, Any]] = (),
) -> Dict[str, Any]:
    """Writes OUT/bundle with the worker; returns metrics, arena and the bundle's path.

    evaluated: results of rounds with figures of held-out records, for a target whose threshold comes from them.
    No row of `rows` or `calibration` goes into the bundle: of rows it has figures, of calibration the int8 ranges, and deciles
    where it is public. What the engines gave for `rows` is left in OUT/evaluation, for its owner alone.
    """
    shape, learned = task.schema.input_shape, task.schema.learned
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
        "classes": learned.outputs,
        "weights": str((work / "trained.npy").resolve()),
        "representative": str((work / "representative.npy").resolve()),
        "reference": None,
        "origin": origin,
        "labels": list(learned.names) or None,
        "features": describe_features(task.schema, mean, std),
        "data_schema": {name: said for name, said in plain_data(task.schema).items() if name != "target" or said},
        "privacy": claim,
        "privacy_page": markdown(claim),
    }
    if trained.heads is not None:
        np.save(work / "heads.npy", trained.heads)
        spec.update(heads=str((work / "heads.npy").resolve()), heads_left_out=trained.heads_left_out)
    declared = task.schema.declared
    if declared is not None:
        spec["ending"] = declared.exported
        spec["origin"] = {**origin, "output": declared.exported_words}
    if learned.scored:
        anomaly = anomaly_of(task, rows is not None, evaluated)
        if anomaly is not None:
            spec["anomaly"] = anomaly
        else:
            progress({"event": "export", "message": NO_THRESHOLD})
            spec["origin"]["output"] += f"; {NO_THRESHOLD}"
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
        answer["metrics"] = _metrics(out, rows, standardize(rows.x, mean, std), task.schema)
    return answer


def anomaly_of(task: Task, rows: bool, evaluated: Sequence[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """What the exporter needs to make a threshold: of the gateway's rows, where it has some, else of held-out records.

    None where these are too few for the quantile, or noise hides what they would say.
    """
    quantile = task.schema.learned.options.quantile
    if rows:
        return {"quantile": quantile}
    federated = [(result["round"], result["federated"]) for result in evaluated if result.get("federated")]
    if not federated or federated[-1][1].get("threshold") is None:
        return None
    number, said = federated[-1]
    of = f"{many(said['records'], 'record')} that nodes held out, by the weights of round {number}, before int8"
    return {"quantile": quantile, "threshold": said["threshold"], "of": of}


def _make_private(folder: Path) -> None:
    """An empty folder that its owner alone may open."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)


def _metrics(out: Path, rows: EvaluationSet, x_of_float: np.ndarray, schema: Schema) -> Dict[str, Any]:
    """{float, int8, tflm: evaluation.judge} from the outputs the worker left. x_of_float: the rows, standardized."""
    folder, learned, manifest = out / EVALUATION, schema.learned, read_manifest(out / "bundle")
    inputs = np.load(folder / "eval_int8_inputs.npy")
    quantized = real_values(manifest["input"], inputs)
    answers = {
        engine: learned.exported_answers(
            mean_of_heads(manifest, np.load(folder / f"{engine}_probs.npy").astype(np.float64)), rows.y, x
        )
        for engine, x in (("float", x_of_float), ("int8", quantized))
    }
    answers["tflm"] = board_answers(schema, manifest, inputs, np.load(folder / "tflm_outputs.npy"), rows.y)
    return {engine: judge(schema, rows.y, found, rows.groups) for engine, found in answers.items()}


def board_answers(
    schema: Schema, manifest: Dict[str, Any], inputs: np.ndarray, outputs: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """What int8 outputs (n, ...) of a bundle's model say of int8 inputs (n, ...) with codes y."""
    values = mean_of_heads(manifest, real_values(manifest["output"], outputs.reshape(len(outputs), -1)))
    return schema.learned.exported_answers(values, y, real_values(manifest["input"], inputs))


def mean_of_heads(manifest: Dict[str, Any], values: np.ndarray) -> np.ndarray:
    """(n, outputs): what the model says, from its values of n records; of a model without heads these are it."""
    heads = manifest.get("heads", {}).get("count", 0)
    return mean_and_spread(values.reshape(len(values), heads, -1))[0] if heads else values


def real_values(edge: Dict[str, Any], values: np.ndarray) -> np.ndarray:
    """float64: what int8 values of an edge of a manifest stand for."""
    return np.float64(np.float32(edge["scale"])) * (values.astype(np.float64) - edge["zero_point"])


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
    """What a board has to know of a column with a logarithm."""
    if not feature.transform:
        return {}
    least, most = feature.range
    return {"transform": feature.transform, "minimum": float(least), "maximum": float(most)}
