"""The figures of what a model says, whatever its task learns: those of classes by scores.py, others by their target."""

from typing import Any, Dict

import numpy as np

from orchestrator.gateway import counts, scores
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Task


def figures_of_rows(schema: Schema, y: np.ndarray, answers: np.ndarray, resample: bool = True) -> Dict[str, Any]:
    """Of codes (n,) and answers of a model for them. resample: also the intervals of classes that need resamples."""
    if schema.declared is not None:
        return schema.declared.of_rows(y, answers)
    return scores.figures(counts.of_rows(y, answers), schema.classes, resample)


def figures_of_sums(schema: Schema, sums: np.ndarray, bins: int, noise: float) -> Dict[str, Any]:
    """Of federated sums (size,). noise: standard deviation of each."""
    if schema.declared is not None:
        return schema.declared.of_sums(sums, bins, noise)
    return scores.figures(counts.of_sums(sums, len(schema.classes), bins, noise), schema.classes)


def pooled_figures(task: Task, sums: Dict[str, np.ndarray], nodes: int) -> Dict[str, Any]:
    """Of what `nodes` nodes counted together, and of each by its name. sums: under "" those of a secure sum, of no one node."""
    from orchestrator.privacy.noisy_sum import evaluation_noise  # predictions, too, are judged here, and have no noise

    def figures(vector: np.ndarray, nodes: int) -> Dict[str, Any]:
        return figures_of_sums(task.schema, vector, task.evaluation.bins, evaluation_noise(task, nodes))

    pooled = figures(np.sum([sums[node] for node in sorted(sums)], axis=0), nodes)
    per_node = {node: figures(vector, 1) for node, vector in sorted(sums.items()) if node}
    return {**pooled, "per_node": per_node} if per_node else pooled
