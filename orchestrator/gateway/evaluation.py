"""How good the weights are on rows the gateway may see: loss, accuracy, AUC, per group."""

from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np

from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.standardization import standardize


class EvaluationSet(NamedTuple):
    """Rows outside the nodes. x: float32 (n, *input_shape), raw; y: int32 (n,); groups: the node each row belongs to."""

    x: np.ndarray
    y: np.ndarray
    groups: Optional[Sequence[str]] = None


class Evaluator:
    """Scores weights on a fixed set with the training graph's `infer`."""

    def __init__(self, graph: bytes, rows: EvaluationSet) -> None:
        self._graph = TrainingGraph(graph)
        self._rows = rows

    def __call__(self, weights: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Dict[str, Any]:
        """{loss, accuracy[, auc]} of float32 weights (P,)."""
        probabilities = softmax(self._graph.logits(weights, standardize(self._rows.x, mean, std)))
        return {"loss": cross_entropy(self._rows.y, probabilities), **score(self._rows.y, probabilities)}


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 probabilities (n, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def cross_entropy(y: np.ndarray, probabilities: np.ndarray) -> float:
    return float(-np.log(np.maximum(probabilities[np.arange(len(y)), y], 1e-12)).mean())


def score(y: np.ndarray, probabilities: np.ndarray, groups: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """{accuracy[, auc][, per_node]}: AUC for two classes that both occur, per_node when groups are given."""
    correct = probabilities.argmax(axis=1) == y
    result: Dict[str, Any] = {"accuracy": float(correct.mean())}
    if probabilities.shape[1] == 2 and 0 < y.sum() < len(y):
        result["auc"] = area_under_curve(y, probabilities[:, 1])
    if groups is not None:
        names = np.asarray(groups)
        result["per_node"] = {str(name): float(correct[names == name].mean()) for name in sorted(set(groups))}
    return result


def area_under_curve(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, ties counted half."""
    order = np.argsort(scores, kind="mergesort")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    _, inverse = np.unique(scores, return_inverse=True)
    ranks = (np.bincount(inverse, ranks) / np.bincount(inverse))[inverse]
    positives = int((y == 1).sum())
    negatives = len(y) - positives
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
