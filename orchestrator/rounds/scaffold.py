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

An update that was not counted must not move c_i: the round's message lists for every node the last round whose update
counted, and a node takes its new c_i over only when it finds itself there (node/control.py).
"""

from typing import Dict, Iterable, Mapping, Tuple

import numpy as np

from orchestrator.rounds.strategy import State, Update, step

CONTROL = "control"
COUNTED = "counted"


def control_change(control: np.ndarray, delta: np.ndarray, travel: float) -> np.ndarray:
    """float64 (P,): what a node's control variate changes by. `travel` is K eta, `control` the c it was sent."""
    return -control.astype(np.float64) - delta.astype(np.float64) / travel


class Scaffold:
    OPTIONS: Tuple[str, ...] = ()
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
