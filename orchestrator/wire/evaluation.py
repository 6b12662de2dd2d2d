"""Federated evaluation: what a node counts on records it never trains on, and what the gateway reads off the sums.

A node sends one vector of sums, float32 (cells + 1,): a histogram over (true class, predicted class, bin of the confidence),
then the sum of the losses, each clipped to [0, 10] and divided by 10. Adding the vectors of all nodes gives the pooled one.
One record changes one cell by 1 and the loss by at most 1, so its L2 sensitivity is sqrt(2).
"""

from typing import Any, Dict, List

import numpy as np

from orchestrator.errors import WireError

LOSS_BOUND = 10.0
SENSITIVITY = float(np.sqrt(2.0))


def vector_size(classes: int, bins: int) -> int:
    return classes * classes * bins + 1


def count(y: np.ndarray, probabilities: np.ndarray, bins: int) -> np.ndarray:
    """float64 sums of int labels (n,) and probabilities (n, classes)."""
    classes = probabilities.shape[1]
    rows = np.arange(len(y))
    predicted = probabilities.argmax(axis=1)
    cell = (y * classes + predicted) * bins + _bin(probabilities[rows, predicted], classes, bins)
    losses = np.clip(-np.log(np.maximum(probabilities[rows, y], 1e-30)), 0.0, LOSS_BOUND) / LOSS_BOUND
    return np.append(np.bincount(cell, minlength=classes * classes * bins), losses.sum()).astype(np.float64)


def check(sums: Any, classes: int, bins: int) -> np.ndarray:
    """float64 (cells + 1,); raises WireError for what no node of this task can have counted."""
    size = vector_size(classes, bins)
    if not isinstance(sums, np.ndarray) or sums.shape != (size,) or sums.dtype != np.dtype("<f4"):
        raise WireError(f"evaluation sums: expected float32 ({size},)")
    if not np.isfinite(sums).all():
        raise WireError("evaluation sums hold values that are not finite numbers")
    return sums.astype(np.float64)


def summarize(sums: np.ndarray, classes: int, bins: int) -> Dict[str, Any]:
    """{records, accuracy, loss, confusion, calibration, calibration_error[, auc]} of one vector of sums.

    confusion: [true class][predicted class], counts. calibration: for each bin of confidence its mean confidence (the bin's
    middle), accuracy and count; calibration_error is their weighted mean distance (expected calibration error, Guo et al. 2017).
    auc: for two classes, of the scores as binned. With noise, counts may be fractions and below 0; what cannot be said is None.
    """
    cells = sums[:-1].reshape(classes, classes, bins)
    total = float(cells.sum())
    confusion = cells.sum(axis=2)
    correct = np.einsum("iib->b", cells)
    in_bin = cells.sum(axis=(0, 1))
    middle = 1 / classes + (np.arange(bins) + 0.5) / bins * (1 - 1 / classes)
    calibration = [
        {"confidence": float(m), "accuracy": _share(c, n), "records": float(n)}
        for m, c, n in zip(middle, correct, in_bin)
    ]
    used = [(c["records"], abs(c["accuracy"] - c["confidence"])) for c in calibration if c["accuracy"] is not None]
    weight = sum(n for n, _ in used)
    result: Dict[str, Any] = {
        "records": total,
        "accuracy": _share(float(correct.sum()), total),
        "loss": float(sums[-1]) * LOSS_BOUND / total if total > 0 else None,
        "confusion": [[float(v) for v in row] for row in confusion],
        "calibration": calibration,
        "calibration_error": sum(n * d for n, d in used) / weight if weight > 0 else None,
    }
    if classes == 2:
        result["auc"] = _binned_auc(cells)
    return result


def _bin(confidence: np.ndarray, classes: int, bins: int) -> np.ndarray:
    """The confidence of the predicted class lies in [1/classes, 1]; `bins` equal parts of it."""
    scaled = (confidence - 1 / classes) / (1 - 1 / classes)
    return np.clip((scaled * bins).astype(np.int64), 0, bins - 1)


def _share(part: float, whole: float) -> Any:
    return float(min(1.0, max(0.0, part / whole))) if whole >= 0.5 else None


def _binned_auc(cells: np.ndarray) -> Any:
    """Area under the ROC curve of two classes from the binned score of class 1, ties within a bin counted half."""
    # Ascending score of class 1: predicted 0 with falling confidence, then predicted 1 with rising confidence.
    by_score: List[np.ndarray] = [np.maximum(np.concatenate([c[0, ::-1], c[1]]), 0.0) for c in cells]
    negatives, positives = by_score
    if negatives.sum() <= 0 or positives.sum() <= 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (negatives.sum() * positives.sum()))
