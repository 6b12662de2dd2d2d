"""How good the weights are on rows the gateway may see, and on those of each group."""

from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence

import numpy as np

from orchestrator.gateway.counts import of_rows
from orchestrator.gateway.judged import figures_of_rows
from orchestrator.gateway.scores import figures
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.standardization import standardize
from orchestrator.wire.schema import Schema


class EvaluationSet(NamedTuple):
    """Rows outside the nodes. x: float32 (n, *input_shape), raw; y: int32 (n,); groups: the node each row belongs to."""

    x: np.ndarray
    y: np.ndarray
    groups: Optional[Sequence[str]] = None


class Evaluator:
    """Scores weights on a fixed set with the training graph's `infer`."""

    def __init__(self, graph: bytes, rows: EvaluationSet, schema: Schema) -> None:
        self._graph = TrainingGraph(graph)
        self._rows = rows
        self._schema = schema

    def __call__(self, weights: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Dict[str, Any]:
        """{loss, ...} of float32 weights (P,), as judged.figures_of_rows, without the intervals that resamples give."""
        x = standardize(self._rows.x, mean, std)
        outputs = self._graph.logits(weights, x).astype(np.float64)
        answers = self._schema.learned.answers(outputs, self._rows.y, x)
        return figures_of_rows(self._schema, self._rows.y, answers, resample=False)


def score(
    y: np.ndarray, probabilities: np.ndarray, groups: Optional[Sequence[str]] = None, classes: Sequence[str] = ()
) -> Dict[str, Any]:
    """scores.figures, and with groups per_node, the accuracy of each, and sites, all figures of each."""
    result = _by_site(lambda rows: figures(of_rows(y[rows], probabilities[rows]), classes), len(y), groups)
    if groups is not None:
        result["per_node"] = {name: site["accuracy"] for name, site in result["sites"].items()}
    return result


def judge(schema: Schema, y: np.ndarray, answers: np.ndarray, groups: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """What `score` says of classes; of another target judged.figures_of_rows, and with groups sites, all figures of each."""
    if not schema.target:
        return score(y, answers, groups, schema.classes)
    return _by_site(lambda rows: figures_of_rows(schema, y[rows], answers[rows]), len(y), groups)


def _by_site(
    figures_of: Callable[[np.ndarray], Dict[str, Any]], records: int, groups: Optional[Sequence[str]]
) -> Dict[str, Any]:
    """figures_of: makes figures of the rows that a mask chooses."""
    result = figures_of(np.ones(records, bool))
    if groups is not None:
        names = np.asarray(groups)
        result["sites"] = {str(name): figures_of(names == name) for name in sorted(set(groups))}
    return result
