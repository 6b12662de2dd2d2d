"""Who was in which round, where that must stay with the gateway.

Where a task claims less epsilon because each round asks a secret sample of the nodes, the claim holds towards those who do not
learn the sample. So nothing that goes out with a model, or to readers of exports and metrics, may show it: neither names, nor how
many answered, nor what follows from that (bytes, seconds, times of rounds, figures of single nodes). What may go out is listed
here, so that a figure somebody adds later stays inside until it is. The gateway's journal, log, audit log and dashboard show it
all: the claim says that it does not hold towards those who read them.
"""

from typing import Any, Dict

from orchestrator.wire.task import Task

WITHHELD = "left out: it would show who was in which round, and the claim counts on that being secret"

_OF_A_ROUND = ("round", "learning_rate", "loss", "accuracy", "auc", "mae", "rmse", "r2", "base_rate", "intervals")
"""Functions of the round's number, or of models that are noised already and rows the gateway holds."""

_OF_A_REPORT = (
    "run",
    "task",
    "nodes",  # how many joined
    "rounds",
    "privacy",
    "bundle",
    "digest",
    "no_bundle",
    "arena",
    "metrics",
)


def secret_sample(task: Task) -> bool:
    """Whether the task's claim counts on nobody but the gateway knowing which nodes a round asked (see charges.py)."""
    return task.privacy.central and task.selection.sampling_rate > 0


def secret_sample_in(declared: Dict[str, Any]) -> bool:
    """The same of a task as plain data, of whatever version."""
    privacy, selection = declared.get("privacy", {}), declared.get("selection", {})
    central = privacy.get("unit") == "node" and privacy.get("noise") == "gateway"
    return bool(central and selection.get("sampling_rate", 0.0))


def public_round(figures: Dict[str, Any]) -> Dict[str, Any]:
    """Of a round's figures, what the sample cannot be read off."""
    return {name: figures[name] for name in _OF_A_ROUND if name in figures}


def public_report(report: Dict[str, Any]) -> Dict[str, Any]:
    """result.json of such a run."""
    known = {name: report[name] for name in _OF_A_REPORT if name in report}
    wire = {name: report["wire"][name] for name in ("float32_bytes", "codec") if name in report.get("wire", {})}
    return {
        **known,
        "per_round": [public_round(figures) for figures in report.get("per_round", ())],
        "wire": {**wire, "counted": WITHHELD},
        "participation": WITHHELD,
    }
