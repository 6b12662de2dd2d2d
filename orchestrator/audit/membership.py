"""Membership inference by a threshold on the loss: was this record trained on? (Yeom et al. 2018, adversary 1)"""

import math
from typing import Any, Dict

import numpy as np

from orchestrator.node.runtime import TrainingGraph


def losses(graph: TrainingGraph, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (n,): cross-entropy of every record. x: float32 (n, *input_shape), standardized; y: int32 (n,)."""
    logits = graph.logits(weights.astype(np.float32), x).astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    spread = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return np.asarray(spread - logits[np.arange(len(y)), y])


def membership(members: np.ndarray, others: np.ndarray, epsilon: float, delta: float) -> Dict[str, Any]:
    """What losses tell apart. members, others: float (n,), (m,), losses of records trained on and of records that were not.

    auc: probability that a member has the lower loss; its error is Hanley and McNeil's (1982). advantage: TPR - FPR where all
    below the members' mean loss are called members. Both with 95 % confidence intervals. allowed_advantage: the most
    (epsilon, delta) lets anyone reach (Kairouz, Oh, Viswanath 2015). holds: the interval does not lie above it.
    """
    auc = float((members[:, None] < others[None, :]).mean() + 0.5 * (members[:, None] == others[None, :]).mean())
    n, m = len(members), len(others)
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = (auc * (1 - auc) + (n - 1) * (q1 - auc * auc) + (m - 1) * (q2 - auc * auc)) / (n * m)
    threshold = float(members.mean())
    hits, alarms = float((members <= threshold).mean()), float((others <= threshold).mean())
    error = math.sqrt(hits * (1 - hits) / n + alarms * (1 - alarms) / m)
    allowed = allowed_advantage(epsilon, delta)
    advantage = hits - alarms
    return {
        "members": n,
        "others": m,
        "auc": auc,
        "auc_interval": _interval(auc, math.sqrt(max(0.0, variance))),
        "true_positive_rate": hits,
        "false_positive_rate": alarms,
        "advantage": advantage,
        "advantage_interval": _interval(advantage, error),
        "allowed_advantage": allowed,
        "holds": advantage - 1.96 * error <= allowed,
    }


def allowed_advantage(epsilon: float, delta: float) -> float:
    """The largest TPR - FPR with TPR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon (1 - TPR) + delta."""
    return 1.0 if epsilon > 700 else min(1.0, (math.expm1(epsilon) + 2 * delta) / (math.exp(epsilon) + 1))


def _interval(value: float, error: float) -> "list[float]":
    return [value - 1.96 * error, value + 1.96 * error]
