"""The figures a bundle states in its manifest: how good the model is, with intervals, as far as its gateway knows.

They travel with the model, so they are figures of all records together: nothing of single sites, cells or rows.
"""

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from model_export.errors import ExportError
from model_export.manifest import read_manifest
from model_export.signing import read_private_key, replace_manifest
from orchestrator.errors import GivenError
from orchestrator.privacy.participation import secret_sample
from orchestrator.wire.task import Task

FIGURES = (
    "records",
    "base_rate",
    "accuracy",
    "sensitivity",
    "specificity",
    "recall",
    "macro_f1",
    "auc",
    "pr_auc",
    "r2",
    "mae",
    "rmse",
    "concordance",
    "deviance",
    "loss",
    "threshold",
    "calibration_error",
    "calibration_slope",
)
ENGINES = ("float", "int8", "tflm")
HELD_OUT = "held_out"
"""Of the records that nodes held out, the newest evaluation; the weights before quantization."""


def of_report(report: Mapping[str, Any], task: Task) -> Dict[str, Any]:
    """{float, int8, tflm: of the gateway's rows, held_out: with its round}; what was not evaluated is left out.

    Where the sample of nodes is secret nothing of single rounds is stated, see participation.py.
    """
    metrics = report.get("metrics") or {}
    found = {engine: _stated(metrics[engine]) for engine in ENGINES if engine in metrics}
    evaluated = [each for each in report.get("per_round", ()) if each.get("federated")]
    if evaluated and not secret_sample(task):
        found[HELD_OUT] = {"round": evaluated[-1]["round"], **_stated(evaluated[-1]["federated"])}
    return found


def state_figures(bundle: Path, figures: Mapping[str, Any], signing_key: Optional[Path]) -> None:
    """Puts them into the manifest of a bundle, signed again with the key its gateway signs with."""
    try:
        key = None if signing_key is None else read_private_key(signing_key)
        replace_manifest(bundle, {**read_manifest(bundle), "accuracy": dict(figures)}, key)
    except ExportError as error:
        raise GivenError(f"{bundle}: {error}") from error


def _stated(figures: Mapping[str, Any]) -> Dict[str, Any]:
    """Of a dict as scores.figures gives it. recall is a list by class; thresholds have their own intervals."""
    stated = {name: figures[name] for name in FIGURES if figures.get(name) is not None}
    intervals = figures.get("intervals", {})
    stated["intervals"] = {name: intervals[name] for name in FIGURES if name in stated and intervals.get(name)}
    if figures.get("thresholds"):
        stated["thresholds"] = figures["thresholds"]
    hidden = [name for name in figures.get("too_noisy", ()) if name in FIGURES]
    return {
        **stated,
        **({"too_noisy": hidden} if hidden else {}),
        **({"warning": figures["warning"]} if figures.get("warning") else {}),
    }
