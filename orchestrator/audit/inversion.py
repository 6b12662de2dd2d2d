"""Reading a record off its gradient: where the first layer is dense and has a bias, the gradient contains the record.

For logits that depend on x by way of h = x W + b alone, dL/dW = x (dL/db)^T. So every column of dL/dW is x times one number known
from dL/db, whatever comes behind the layer. (Phong et al. 2018; Geiping et al. 2020.)
"""

from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np

from orchestrator.data.dataset import Dataset
from orchestrator.node.runtime import TrainingGraph
from orchestrator.privacy.own_sum import step_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.wire.task import Task

NOT_DENSE = "the model's first layer is not dense with a bias: this attack does not apply"
RECORDS = 50


class FirstLayer(NamedTuple):
    """Where the first layer lies in the flat vector. inputs, outputs: of its kernel, which is stored row by row."""

    kernel: int
    bias: int
    inputs: int
    outputs: int


def first_layer(tensors: List[Dict[str, Any]], input_size: int) -> Optional[FirstLayer]:
    """From the table prepare wrote (name, shape, offset, size); None unless it is dense, with a bias, over the whole input."""
    if len(tensors) < 2:
        return None
    kernel, bias = tensors[0], tensors[1]
    if len(kernel["shape"]) != 2 or kernel["shape"][0] != input_size or bias["shape"] != kernel["shape"][1:]:
        return None
    return FirstLayer(kernel["offset"], bias["offset"], *kernel["shape"])


def invert(gradient: np.ndarray, layer: FirstLayer) -> np.ndarray:
    """float64 (inputs,): the record, from float (P,), by least squares over the layer's outputs; 0 where it has no gradient."""
    size = layer.inputs * layer.outputs
    kernel = gradient[layer.kernel : layer.kernel + size].astype(np.float64).reshape(layer.inputs, layer.outputs)
    bias = gradient[layer.bias : layer.bias + layer.outputs].astype(np.float64)
    power = float(bias @ bias)
    return kernel @ bias / power if power > 0 else np.zeros(layer.inputs)


def inversion(
    task: Task, graph: TrainingGraph, weights: np.ndarray, data: Dataset, layer: Optional[FirstLayer]
) -> Dict[str, Any]:
    """Median absolute errors, in standardized units, of records read off gradients at `weights`; of at most RECORDS.

    data: standardized. plain: of one record's gradient as it is. protected: the same gradient, clipped and noised as the task
    says, alone in its sum, which is the best case for the attacker; None without privacy. guess: of who says 0, the mean.
    """
    if layer is None:
        return {"applies": False, "reason": NOT_DENSE}
    chosen = np.random.default_rng(0).permutation(data.records)[:RECORDS]
    mechanism = step_sum(task, weights.size) if task.privacy.on else None
    random, rounding = SecureRandom(), np.random.default_rng()
    errors: Dict[str, List[np.ndarray]] = {"plain": [], "protected": [], "guess": []}
    for i in chosen:
        truth = data.x[i].reshape(-1).astype(np.float64)
        gradient = graph.record_gradient(weights, data.x[i : i + 1], data.y[i : i + 1])
        errors["plain"].append(np.abs(invert(gradient, layer) - truth))
        errors["guess"].append(np.abs(truth))
        if mechanism is not None:
            total = mechanism.total([gradient], rounding)
            total = total + sum(mechanism.noise(random) for _ in range(mechanism.parties))
            errors["protected"].append(np.abs(invert(mechanism.to_float(total), layer) - truth))
    medians = {name: float(np.median(found)) if found else None for name, found in errors.items()}
    return {"applies": True, "records": len(chosen), **medians}
