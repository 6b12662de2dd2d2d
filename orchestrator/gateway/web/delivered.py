"""What runs delivered and their settings, side by side: figures of the int8 model, and every setting of the task."""

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

from orchestrator.gateway.history import quality
from orchestrator.gateway.run_tables import flatten
from orchestrator.gateway.web.runview import RunView
from orchestrator.rounds.stages import FIRST_ROUND
from orchestrator.wire.plain import plain
from orchestrator.wire.task import task_to_dict

_MOST_TEXT = 200
_FIRST = (
    "training.strategy",
    "training.rounds",
    "training.local_steps",
    "training.learning_rate",
    "training.server_learning_rate",
    "privacy.unit",
    "privacy.epsilon",
    "privacy.delta",
    "privacy.clip_norm",
    "privacy.noise_multiplier",
    "privacy.sampling_rate",
    "selection.sampling_rate",
    "codec",
    "seed",
)
"""Settings people look for first, in this order; the others follow by name."""

Reported = Tuple[RunView, Optional[Dict[str, Any]]]
"""A run, and its report once its bundle is made."""


def short(view: RunView, report: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """What the list of runs shows of what came out: accuracy and AUC of the int8 model, when it began, how long it took."""
    int8 = _engine(report)
    return {
        "int8_accuracy": int8.get("accuracy"),
        "int8_auc": int8.get("auc"),
        "started_at": view.began_at or None,
        "wall_s": view.last_event_at - view.began_at if view.over else None,
        "files": files_of(report),
    }


def files_of(report: Optional[Dict[str, Any]]) -> List[str]:
    """Which files of a run can be asked for, see run_files.py."""
    if report is None:
        return []
    if report.get("analysis"):
        return ["tables.zip", "report.json"]
    return ["bundle.zip", "privacy.md", "report.json"] if report.get("digest") else ["report.json"]


def compared(runs: Sequence[Reported]) -> Dict[str, Any]:
    """{runs, figures, settings}: rows {name, kind, values, differs} with a value for each run.

    kind: how a value is written (number, epsilon, seconds, time, bytes or text). Values of settings are texts, cut where they are
    long; whether they differ is of the whole ones.
    """
    figures = [_figures(view, report) for view, report in runs]
    tasks = [flatten(task_to_dict(view.task)) for view, _ in runs]
    names = [name for name in _FIRST if any(name in task for task in tasks)]
    names += sorted({name for task in tasks for name in task} - set(names))
    return {
        "runs": [view.run for view, _ in runs],
        "figures": [_row(name, kind, [of[name] for of in figures]) for name, kind in _KINDS.items()],
        "settings": [_setting(name, [task.get(name) for task in tasks]) for name in names],
    }


_KINDS = {
    "accuracy, int8": "number",
    "AUC, int8": "number",
    "accuracy, float": "number",
    "weights delivered": "text",
    "best round": "text",
    "epsilon": "epsilon",
    "rounds done": "text",
    "began": "time",
    "ended": "time",
    "wall time": "seconds",
    "bytes up, all rounds": "bytes",
    "bytes up, a node and round": "bytes",
    "model digest": "text",
}


def _figures(view: RunView, report: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    training, said = view.task.training, report or {}
    rows = ({"round": r["round"], **quality(r)} for r in view.store.each_result(view.run, FIRST_ROUND + 1))
    totals = view.totals()
    int8, plain_float = _engine(report), (said.get("metrics") or {}).get("float") or {}
    return {
        "accuracy, int8": int8.get("accuracy"),
        "AUC, int8": int8.get("auc"),
        "accuracy, float": plain_float.get("accuracy"),
        "weights delivered": _weights(view),
        "best round": best_round([row for row in rows if row["round"] <= training.rounds]),
        "epsilon": (said.get("privacy") or {}).get("epsilon"),
        "rounds done": f"{totals['rounds']} of {training.rounds}",
        "began": view.began_at or None,
        "ended": view.last_event_at if view.over else None,
        "wall time": view.last_event_at - view.began_at if view.over else None,
        "bytes up, all rounds": totals["bytes_up"],
        "bytes up, a node and round": (said.get("wire") or {}).get("bytes_up_per_node_round"),
        "model digest": said.get("digest") or None,
    }


def _engine(report: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Figures of the int8 model as a board runs it; of another engine where TFLM was not there."""
    metrics = (report or {}).get("metrics") or {}
    return metrics.get("tflm") or metrics.get("int8") or {}


def _weights(view: RunView) -> Optional[str]:
    training = view.task.training
    if not view.task.trains:
        return None
    if training.tail_average:
        return "mean of the second half of the rounds"
    return f"best round by {training.best}" if training.best else "last round"


def best_round(rows: Sequence[Dict[str, Any]]) -> Optional[str]:
    """The earliest round of the highest accuracy, or of the lowest loss where accuracy was not measured."""
    measured = [row for row in rows if isinstance(row["accuracy"], float)]
    if measured:
        best = max(measured, key=lambda row: (row["accuracy"], -row["round"]))
        return f"{best['round']} (accuracy {best['accuracy']:.3f})"
    losses = [row for row in rows if isinstance(row["loss"], float) and row["loss"] == row["loss"]]
    if not losses:
        return None
    best = min(losses, key=lambda row: (row["loss"], row["round"]))
    return f"{best['round']} (loss {best['loss']:.3f})"


def _row(name: str, kind: str, values: List[Any]) -> Dict[str, Any]:
    return {"name": name, "kind": kind, "values": values, "differs": any(value != values[0] for value in values[1:])}


def _setting(name: str, values: List[Any]) -> Dict[str, Any]:
    texts = [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
    row = _row(name, "text", texts)
    return {**row, "values": [None if text is None else plain(text, _MOST_TEXT) for text in texts]}
