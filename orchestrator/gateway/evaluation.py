"""How good the weights are on rows the gateway may see, and on those of each group."""

from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np

from orchestrator.gateway.counts import of_rows
from orchestrator.gateway.scores import figures
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.standardization import standardize


class EvaluationSet(NamedTuple):
    """Rows outside the nodes. x: float32 (n, *input_shape), raw; y: int32 (n,); groups: the node each row belongs to."""

    x: np.ndarray
    y: np.ndarray
    groups: Optional[Sequence[str]] = None


class Evaluator:
    """Scores weights on a fixed set with the training graph's `infer`."""

    def __init__(self, graph: bytes, rows: EvaluationSet, classes: Sequence[str] = ()) -> None:
        """classes: their names, for what is said of them."""
        self._graph = TrainingGraph(graph)
        self._rows = rows
        self._names = tuple(classes)

    def __call__(self, weights: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Dict[str, Any]:
        """{loss, accuracy[, auc], ...} of float32 weights (P,), as scores.figures, without the intervals that resamples give."""
        probabilities = softmax(self._graph.logits(weights, standardize(self._rows.x, mean, std)))
        return figures(of_rows(self._rows.y, probabilities), self._names, resample=False)


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 probabilities (n, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def probabilities_of(outputs: np.ndarray) -> np.ndarray:
    """float64 probabilities (n, classes) of a quantized model's int8 outputs, which are 1/256 apart from -128 on."""
    return (outputs.astype(np.float64) + 128) / 256


def score(
    y: np.ndarray, probabilities: np.ndarray, groups: Optional[Sequence[str]] = None, classes: Sequence[str] = ()
) -> Dict[str, Any]:
    """scores.figures, and with groups per_node, the accuracy of each, and sites, all figures of each."""
    result = figures(of_rows(y, probabilities), classes)
    if groups is not None:
        names = np.asarray(groups)
        chosen = {str(name): names == name for name in sorted(set(groups))}
        sites = {name: figures(of_rows(y[rows], probabilities[rows]), classes) for name, rows in chosen.items()}
        result["per_node"] = {name: site["accuracy"] for name, site in sites.items()}
        result["sites"] = sites
    return result
