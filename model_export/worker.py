"""The work that needs TensorFlow, done in a process of its own: read a spec, write files, give back one JSON object."""

import errno
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from model_export.array_files import read_array
from model_export.bundle import write_bundle
from model_export.endings import check_ending, with_ending
from model_export.errors import ArrayFileError, ExportError
from model_export.evaluation import check_evaluation, classification_metrics, softmax
from model_export.heads import mean_and_spread, with_heads
from model_export.losses import check_loss
from model_export.models import (
    build_model,
    check_softmax,
    ending,
    frozen_layers,
    get_weights,
    gives_logits,
    load_keras_model,
    load_whole_model,
    output_layer_sizes,
    precision_note,
    set_weights,
    tensor_table,
)
from model_export.quantize import CALIBRATION_ROWS
from model_export.reconstruction import int8_scores
from model_export.signing import read_private_key

Result = Dict[str, Any]
PREPARE_KEYS = {
    "model": True,
    "input_shape": True,
    "classes": True,
    "batch_size": False,
    "seed": False,
    "loss": False,
}
BUNDLE_KEYS = {
    "model": True,
    "name": True,
    "representative": True,
    "input_shape": False,
    "classes": False,
    "weights": False,
    "labels": False,
    "engine": False,
    "features": False,
    "evaluation": False,
    "privacy": False,
    "privacy_page": False,
    "signing_key": False,
    "softmax": False,
    "reference": False,
    "origin": False,
    "data_schema": False,
    "ending": False,
    "anomaly": False,
    "heads": False,
    "heads_left_out": False,
    "audio": False,
}


def prepare(spec_path: Path, out_dir: Path) -> Result:
    """Write what nodes need to train: training.tflite, weights.npy (initial, float32 (P,)), tensors.json.

    Spec: model, input_shape, classes (see models.build_model); batch_size (default 16), seed (default 0), loss (losses.py; by
    default of classes). The graph's
    gradients are checked in this machine's runtime first. Returns {parameters, batch_size, training_bytes, frozen_layers,
    personal (models.output_layer_sizes), gradients}, where `gradients` is gradient_check's report; the same goes to
    gradients.json.
    """
    from model_export.gradient_check import check_gradients
    from model_export.training_graph import export_training_graph

    spec = _read_spec(spec_path, PREPARE_KEYS)
    batch_size = spec.get("batch_size", 16)
    loss = check_loss(spec.get("loss"))
    model = _model(spec, spec_path.parent)
    _say("exporting the training graph")
    graph = export_training_graph(model, batch_size, loss)
    _say("comparing its gradients with TensorFlow's")
    report = check_gradients(model, graph, batch_size, loss=loss)
    weights = get_weights(model)
    if spec["model"].get("kind") == "mlp" and spec["model"].get("hidden") == []:
        weights = np.zeros_like(weights)  # a linear model has one optimum: best sought from where no class is preferred
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "training.tflite").write_bytes(graph)
    np.save(out_dir / "weights.npy", weights)
    _write_json(out_dir / "tensors.json", tensor_table(model))
    _write_json(out_dir / "gradients.json", report)
    return {
        "parameters": len(weights),
        "batch_size": batch_size,
        "training_bytes": len(graph),
        "frozen_layers": frozen_layers(model),
        "personal": output_layer_sizes(model),
        "gradients": report,
    }


def bundle(spec_path: Path, out_dir: Path) -> Result:
    """Quantize a trained model and write its bundle to `out_dir`.

    Spec: model, name, representative (.npy, float32 (rows, *input_shape)); input_shape, classes and weights (.npy,
    float32 (P,)), which only a model of kind keras can do without; labels, features, privacy, privacy_page, engine, origin,
    data_schema, audio (see bundle.write_bundle); reference (.npy in the model's units, or null for none; default: the
    representative rows): what a board measures drift against; evaluation {x, y (.npy files), outputs (a folder)};
    anomaly {quantile[, threshold, of]} of a model that gives back its input; signing_key (PEM, Ed25519: signs model.bin). Paths
    are relative to the spec file.

    With input_shape and classes the model is a classifier, trained to logits, and gets a softmax; or it is of another target, and
    ends as `ending` says (endings.py): then an evaluation has outputs only. Without them a model of kind keras is exported as it
    is, with a softmax where `softmax` is true.

    With heads (.npy, float32 (heads, n): heads.with_heads) the model is a classifier with these output layers in place of its
    own, of which an evaluation compares the mean; heads_left_out says how many more there were.

    Returns {bundle, model_digest, tflite_bytes, arena, [float, int8, tflm: {accuracy[, auc]}, evaluation]}. Of an
    evaluation the bundle has these figures only. The folder `outputs`, readable by its owner alone, gets
    eval_int8_inputs.npy (int8), tflm_outputs.npy (int8), float_probs.npy, int8_probs.npy and y.npy, in the order of x: rows
    of the data. float is Keras, int8 the LiteRT runtime, tflm the tflite-micro wheel.
    """
    from model_export.float_model import float_files
    from model_export.quantize import doubts, quantize_int8
    from model_export.tflm import TflmModel

    spec = _read_spec(spec_path, BUNDLE_KEYS)
    here = spec_path.parent
    representative = _load(here, spec["representative"], "representative")
    given = spec.get("reference", spec["representative"])
    reference = None if given is None else _load(here, given, "reference")
    evaluation = _evaluation_paths(spec)
    ends = check_ending(spec.get("ending"))
    model = _model(spec, here, whole=True)
    precision = _precision(spec, here)
    if "weights" in spec:
        set_weights(model, _load(here, spec["weights"], "weights"))
    trained_here = "input_shape" in spec and "classes" in spec
    heads: Optional[Dict[str, int]] = None
    if "heads" in spec:
        model = with_heads(model, _load(here, spec["heads"], "heads"))
        heads = {"count": int(model.outputs[0].shape[1]), "left_out": int(spec.get("heads_left_out", 0))}
    if ends is not None:
        model = with_ending(model, ends)
    appended = None
    if ends is None and trained_here and heads is None:
        appended = "since the federation trained it to logits"
    elif ends is None and spec.get("softmax"):
        check_softmax(model)
        appended = "as asked"
    elif "softmax" not in spec and spec.get("labels") is not None and gives_logits(model):
        _say("note: the outputs are logits, exported as they are; --softmax makes probabilities of them")
    if appended is not None:
        _say(f"appending a softmax, {appended}")
    for text in doubts(representative):
        _say(f"warning: {text}")
    _say("quantizing to int8")
    blob = quantize_int8(model, representative, softmax=appended is not None)
    floats = float_files(model, softmax=appended is not None)
    _say("running it in TensorFlow Lite Micro")
    tflm = TflmModel(blob)
    metrics: Result = {}
    if evaluation is not None:
        metrics = _evaluate(model, blob, tflm, evaluation, here, appended is not None, ends is None)
    anomaly = _anomaly(spec, tflm, evaluation, here)
    ranges = f"extremes of {min(len(representative), CALIBRATION_ROWS)} representative rows the caller gave"
    ended = "" if appended is None else f"a softmax was appended, {appended}"
    if heads is not None:
        ended = f"{heads['count']} heads with a softmax each, whose mean is the model's answer"
    origin = {
        "int8_ranges": ranges + (f"; {precision}" if precision else ""),
        **({"output": f"scores between 0 and 1: {ended}"} if ended else {}),
        **spec.get("origin", {}),
    }
    key = read_private_key(here / spec["signing_key"]) if "signing_key" in spec else None
    manifest = write_bundle(
        out_dir,
        tflite=blob,
        name=spec["name"],
        labels=spec.get("labels"),
        engine=spec.get("engine"),
        features=spec.get("features"),
        accuracy=metrics,
        privacy=spec.get("privacy"),
        privacy_page=spec.get("privacy_page"),
        reference_rows=None if reference is None else tflm.input.quantize(reference),
        origin=origin,
        float_model=floats,
        data_schema=spec.get("data_schema"),
        anomaly=anomaly,
        heads=heads,
        audio=spec.get("audio"),
        sign=None if key is None else key.sign,
        signer=None if key is None else key.public_key(),
    )
    result = {
        "bundle": str(out_dir),
        "model_digest": manifest["model_digest"],
        "tflite_bytes": len(blob),
        "arena": manifest["arena"],
        **metrics,
    }
    if evaluation is not None and evaluation["outputs"] is not None:
        result["evaluation"] = str(here / evaluation["outputs"])
    return result


def _evaluate(
    model: Any, blob: bytes, tflm: Any, evaluation: Result, here: Path, appended: bool, classes: bool
) -> Result:
    """{float, int8, tflm: metrics of classes} over the evaluation's rows; what engines gave goes into its folder `outputs`."""
    from model_export.gradient_check import run_graph

    out = tuple(model.outputs[0].shape[1:])
    several = len(out) == 2  # heads, each with a softmax
    if classes and not several and (len(out) != 1 or out[0] < 2 or not (appended or ending(model)[1] == "softmax")):
        raise ExportError(f"an evaluation is of classifiers that end in a softmax; this model gives {out} without one")
    x, y = (_load(here, evaluation[key], f"evaluation.{key}") for key in "xy")
    x, y = check_evaluation(x, y, tuple(model.inputs[0].shape[1:]), int(out[-1]) if classes else None)
    _say(f"evaluating {len(x)} rows as float, int8 and TFLM")
    rows = tflm.input.quantize(x)
    scores = np.asarray(model.predict(x, batch_size=256, verbose=0))
    probabilities = softmax(scores) if appended else scores
    lite = tflm.output.dequantize(run_graph(blob, {"rows": rows})["rows"])
    outputs = tflm.run(rows)
    if evaluation["outputs"] is not None:
        arrays = {
            "eval_int8_inputs": rows,
            "tflm_outputs": outputs,
            "float_probs": probabilities,
            "int8_probs": lite,
            "y": y,
        }
        _write_private(here / evaluation["outputs"], arrays)
    by_engine = (("float", probabilities), ("int8", lite), ("tflm", tflm.output.dequantize(outputs)))
    said = ((engine, mean_and_spread(found)[0] if several else found) for engine, found in by_engine)
    return {engine: classification_metrics(found, y) for engine, found in said if classes}


def _anomaly(spec: Result, tflm: Any, evaluation: Optional[Result], here: Path) -> Optional[Result]:
    """{threshold, quantile, of} for a manifest; a threshold that is not given is of TFLM's scores of the evaluation's rows."""
    declared = spec.get("anomaly")
    if declared is None or "threshold" in declared:
        return None if declared is None else dict(declared)
    if evaluation is None:
        raise ExportError("anomaly: without a threshold it takes an evaluation, whose scores it is a quantile of")
    rows = tflm.input.quantize(_load(here, evaluation["x"], "evaluation.x"))
    scores = int8_scores(rows, tflm.run(rows), tflm.input, tflm.output)
    threshold = float(np.quantile(scores, declared["quantile"], method="inverted_cdf"))
    return {
        "threshold": threshold,
        "quantile": declared["quantile"],
        "of": f"{len(scores)} rows the gateway evaluated, in int8",
    }


def _write_private(folder: Path, arrays: Dict[str, "np.ndarray"]) -> None:
    """Each array as NAME.npy for its owner alone; the folder as well."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        path.unlink(missing_ok=True)  # what is there may be readable by others
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            np.save(file, array)


_CURES = {
    errno.ENOSPC: ": make room on that disk, then give the same command again",
    errno.EDQUOT: ": this user may write no more there: make room, then give the same command again",
    errno.EROFS: ": that disk can only be read; name another folder",
}

VERBS: Dict[str, Callable[[Path, Path], Result]] = {"prepare": prepare, "bundle": bundle}


def main(arguments: List[str]) -> int:
    """`VERB SPEC.json OUT_DIR`: progress on stderr, one JSON object as the last line of stdout, exit code 0, 1 or 2."""
    if len(arguments) != 3 or arguments[0] not in VERBS:
        print(f"usage: {{{','.join(VERBS)}}} SPEC.json OUT_DIR", file=sys.stderr)
        return 2
    try:
        result = VERBS[arguments[0]](Path(arguments[1]), Path(arguments[2]))
    except ExportError as error:
        print(json.dumps({"error": str(error), "type": type(error).__name__}), flush=True)
        return 1
    except OSError as error:
        if error.errno is None:  # of a library, which says no more than its traceback
            raise
        # Of a write that failed the system names no file: it is one of the folder's, or of those that converting needs.
        place = error.filename or f"{arguments[2]}, or {tempfile.gettempdir()}"
        print(
            json.dumps({"error": f"{place}: {error.strerror}{_CURES.get(error.errno, '')}", "type": "ExportError"}),
            flush=True,
        )
        return 1
    print(json.dumps(result), flush=True)
    return 0


def _model(spec: Result, here: Path, whole: bool = False) -> Any:
    """The model of a spec; with `whole`, a user's file keeps its own ending where the spec names no classes."""
    _say("building the model (TensorFlow takes some seconds to start)")
    description = spec["model"]
    is_keras = isinstance(description, dict) and description.get("kind") == "keras"
    precision = _precision(spec, here)
    if precision:
        _say(precision)
    if is_keras and isinstance(description.get("path"), str):
        description = {**description, "path": str(here / description["path"])}
    if "input_shape" in spec and "classes" in spec:
        least = 1 if "loss" in spec or "ending" in spec else 2
        return build_model(description, spec["input_shape"], spec["classes"], spec.get("seed", 0), least)
    if not is_keras or "path" not in description:
        raise ExportError("the spec needs input_shape and classes, except for a model of kind keras with a path")
    return load_whole_model(description["path"]) if whole else load_keras_model(description["path"])


def _precision(spec: Result, here: Path) -> str:
    """What became of the precision of a user's file; empty for float32, and for a model of ours."""
    description = spec["model"]
    if not isinstance(description, dict) or not isinstance(description.get("path"), str):
        return ""
    return precision_note(str(here / description["path"]))


def _read_spec(path: Path, keys: Dict[str, bool]) -> Result:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ExportError(f"{path}: is no JSON: {error}") from error
    if not isinstance(spec, dict):
        raise ExportError(f"{path}: must hold one JSON object")
    unknown = sorted(set(spec) - set(keys))
    missing = sorted(key for key, required in keys.items() if required and key not in spec)
    if unknown or missing:
        problem = f"key '{unknown[0]}' is unknown" if unknown else f"key '{missing[0]}' is missing"
        raise ExportError(f"{path}: {problem}; accepted are {', '.join(sorted(keys))}")
    return spec


def _evaluation_paths(spec: Result) -> Optional[Result]:
    """{x, y, outputs} of a spec, outputs None where nothing is kept; None without an evaluation."""
    evaluation = spec.get("evaluation")
    if evaluation is None:
        return None
    if not isinstance(evaluation, dict) or not {"x", "y"} <= set(evaluation) <= {"x", "y", "outputs"}:
        raise ExportError("evaluation must be an object with the two .npy paths x and y, and may name a folder outputs")
    return {"outputs": None, **evaluation}


def _load(here: Path, path: Any, what: str) -> "np.ndarray":
    if not isinstance(path, str):
        raise ExportError(f"{what} is {path!r}; accepted is the path of a .npy file")
    try:
        return read_array(here / path)
    except ArrayFileError as error:
        raise ExportError(f"{what}: {error}") from error


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(f"model_export: {text}", file=sys.stderr, flush=True)
