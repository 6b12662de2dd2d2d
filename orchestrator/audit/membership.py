"""Membership inference by a threshold on the loss: was this record trained on? (Yeom et al. 2018, adversary 1)"""

import math
from typing import Any, Dict, List

import numpy as np

from orchestrator.analyses import intervals
from orchestrator.node.runtime import TrainingGraph


def losses(graph: TrainingGraph, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """float64 (n,): cross-entropy of every record. x: float32 (n, *input_shape), standardized; y: int32 (n,)."""
    logits = graph.logits(weights.astype(np.float32), x).astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    spread = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return np.asarray(spread - logits[np.arange(len(y)), y])


def membership(members: np.ndarray, others: np.ndarray, epsilon: float, delta: float) -> Dict[str, Any]:
    """What losses tell apart. members, others: float (n,), (m,), losses of records trained on and of records that were not.

    auc: probability that a member has the lower loss; its interval is Newcombe's (2006). advantage: TPR - FPR where all
    below the members' mean loss are called members. Both with 95 % confidence intervals. allowed_advantage: the most
    (epsilon, delta) lets anyone reach (Kairouz, Oh, Viswanath 2015). holds: the interval does not lie above it.
    """
    auc = float((members[:, None] < others[None, :]).mean() + 0.5 * (members[:, None] == others[None, :]).mean())
    n, m = len(members), len(others)
    threshold = float(members.mean())
    hits, alarms = float((members <= threshold).mean()), float((others <= threshold).mean())
    allowed = allowed_advantage(epsilon, delta)
    advantage, between = hits - alarms, difference(hits, n, alarms, m)
    return {
        "members": n,
        "others": m,
        "auc": auc,
        "auc_interval": list(intervals.area(auc, n, m)),
        "true_positive_rate": hits,
        "false_positive_rate": alarms,
        "advantage": advantage,
        "advantage_interval": between,
        "allowed_advantage": allowed,
        "holds": between[0] <= allowed,
    }


def allowed_advantage(epsilon: float, delta: float) -> float:
    """The largest TPR - FPR with TPR <= e^epsilon FPR + delta and 1 - FPR <= e^epsilon (1 - TPR) + delta."""
    return 1.0 if epsilon > 700 else min(1.0, (math.expm1(epsilon) + 2 * delta) / (math.exp(epsilon) + 1))


def difference(first: float, n: int, second: float, m: int) -> List[float]:
    """The interval of one share less another one, out of Wilson's of both (Newcombe 1998, Stat. Med. 17:873, method 10)."""
    (a, b), (c, d) = intervals.share(first * n, n), intervals.share(second * m, m)
    found = first - second
    return [found - math.hypot(first - a, d - second), found + math.hypot(b - first, second - c)]
