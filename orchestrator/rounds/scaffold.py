"""SCAFFOLD: every node corrects its local steps for how its data differs from everybody's.

Karimireddy et al. 2020, Algorithm 1 with option II. A node steps along g - c_i + c, where c_i is its control variate and c
the server's. After K steps of rate eta that moved it by delta, c_i changes by -c - delta / (K eta). The paper sends that
change beside delta; but it follows from delta and c, so here each side computes it from the decoded update, and a round
costs up what FedAvg's does. Down it costs c besides the weights. With privacy on, delta is made of noised gradients, so
control variates are post-processing of what was sent and cost no epsilon.

As FedAvg here weighs nodes by records, so does c: it is sum(n_i c_i) / sum(n_i) over all nodes known to the run, those that
have not answered yet with c_i = 0 (with equal n_i: the paper's 1/N). When a node joins, c shrinks accordingly in the next
round. A node that changes its number of records amid a run makes c inexact.

Where the gateway bounds updates (rounds/norm_bound.py), an update that was shortened moves c by its shortened form, which its
node does not know of: c is inexact then, too.

An update that was not counted must not move c_i. A node keeps two vectors: the c_i that holds, and the one that will if the
gateway counts the update it belongs to. An update may come too late; the next round's message says of every node which one
counted last, and only then does the new vector take over. So c stays the mean of the c_i, whatever was lost on the way.
"""

from typing import Dict, Iterable, Mapping, Tuple, Type

import numpy as np

from orchestrator.errors import WireError
from orchestrator.rounds.strategy import Begun, NodeHalf, State, Update, step

CONTROL = "control"
PENDING = "control.pending"


def control_change(control: np.ndarray, delta: np.ndarray, travel: float) -> np.ndarray:
    """float64 (P,): what a node's control variate changes by. `travel` is K eta, `control` the c it was sent."""
    return -control.astype(np.float64) - delta.astype(np.float64) / travel


class NodeControl:
    """A node's control variate at the beginning of a round."""

    def __init__(self, begun: Begun) -> None:
        """WireError where the round's message does not fit."""
        size = begun.size
        self.server = np.asarray(begun.tensors.get(CONTROL, np.zeros(size, np.float32)))
        if self.server.shape != (size,) or self.server.dtype != np.float32 or not np.isfinite(self.server).all():
            raise WireError(f"the round's control variate is not float32 ({size},) of finite numbers")
        counted = begun.counted()
        pending, held = begun.kept(PENDING), begun.kept(CONTROL)
        if pending is not None and counted.get(begun.node) == pending.round:
            held = pending
        self.own = np.zeros(size, np.float32) if held is None else held.vector

    @property
    def correction(self) -> np.ndarray:
        """float32 (P,): added to every local gradient."""
        return self.server - self.own

    def after(self, sent: np.ndarray, travel: float) -> Dict[str, np.ndarray]:
        """What to keep when `sent` (the update as the gateway will decode it) is released."""
        moved = self.own + control_change(self.server, sent, travel)
        return {CONTROL: self.own, PENDING: moved.astype(np.float32)}


class Corrected(NodeHalf):
    keeps = True

    def correction(self, begun: Begun) -> np.ndarray:
        return NodeControl(begun).correction

    def after(self, begun: Begun, sent: np.ndarray, travel: float) -> Dict[str, np.ndarray]:
        return NodeControl(begun).after(sent, travel)


class Scaffold:
    OPTIONS: Tuple[str, ...] = ()
    AtNode: Type[NodeHalf] = Corrected
    names_counted = True
    least_updates = 1
    takes_mean = True

    def __init__(self, server_learning_rate: float, options: Mapping[str, float]) -> None:
        self.server_learning_rate = server_learning_rate

    def broadcast(self, state: State) -> Dict[str, np.ndarray]:
        return {CONTROL: state[CONTROL].astype(np.float32)} if CONTROL in state else {}

    def aggregate(self, weights: np.ndarray, updates: Iterable[Update], state: State) -> Tuple[np.ndarray, State]:
        control = state.get(CONTROL, np.zeros(weights.size))
        sent = control.astype(np.float32)  # what the nodes computed with
        moved, changed = np.zeros(weights.size), np.zeros(weights.size)
        weight_sum, known = 0.0, 0.0
        for update in updates:
            if update.travel <= 0 or update.known <= 0:
                raise ValueError("scaffold needs the nodes' learning rate and the records of all known nodes")
            moved += update.weight * update.delta.astype(np.float64)
            changed += update.weight * control_change(sent, update.delta, update.travel)
            weight_sum += update.weight
            known = update.known
        if weight_sum <= 0:
            raise ValueError("no update with a positive weight")
        before = float(state["known"][0]) if "known" in state else 0.0
        control = (before * control + changed) / known
        new = step(weights, moved / weight_sum, self.server_learning_rate)
        return new, {CONTROL: control, "known": np.array([known])}
