"""How well a classifier does, float against int8: accuracy, and AUC where there are two classes. numpy only."""

from typing import Any, Dict, Optional, Tuple

import numpy as np

from model_export.errors import ExportError


def classification_metrics(probabilities: "np.ndarray", y: "np.ndarray") -> Dict[str, float]:
    """{accuracy[, auc]} for float scores (rows, classes), ties going to the lower class, and int labels (rows,)."""
    metrics = {"accuracy": float((probabilities.argmax(1) == y).mean())}
    if probabilities.shape[1] == 2 and 0 < int((y == 1).sum()) < len(y):
        metrics["auc"] = area_under_roc(probabilities[:, 1], y == 1)
    return metrics


def area_under_roc(scores: "np.ndarray", positive: "np.ndarray") -> float:
    """The share of (positive, negative) pairs ranked right, ties half: Mann-Whitney U / (n1 * n0).

    (Hanley and McNeil 1982, Radiology 143:29.) `scores` float (rows,), `positive` bool (rows,), both kinds present.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2.0)[inverse]
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2.0) / (n1 * n0))


def softmax(logits: "np.ndarray") -> "np.ndarray":
    """Row-wise softmax in float64, given back as float32."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def check_evaluation(
    x: Any, y: Any, shape: Tuple[int, ...], classes: Optional[int]
) -> Tuple["np.ndarray", "np.ndarray"]:
    """x as float32 (rows, *shape) and y as int (rows,), below `classes` where given. Raises ExportError for other data."""
    x, y = np.asarray(x), np.asarray(y)
    if x.shape[1:] != tuple(shape) or len(x) == 0 or y.shape != (len(x),):
        raise ExportError(
            f"evaluation data has shapes {x.shape} and {y.shape}; accepted are (rows, *{shape}) and (rows,)"
        )
    if x.dtype.kind not in "fiu" or not np.isfinite(x).all():
        raise ExportError("evaluation inputs must be finite numbers")
    if y.dtype.kind not in "iu" or (classes is not None and (y.min() < 0 or y.max() >= classes)):
        within = "" if classes is None else f" from 0 to {classes - 1}"
        raise ExportError(f"evaluation labels must be whole numbers{within}")
    return x.astype(np.float32), y.astype(np.int64)
