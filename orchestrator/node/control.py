"""SCAFFOLD on the node: which control variate holds, and how it moves.

Two vectors are kept: the one that holds, and the one that will if the gateway counts the update it belongs to. An update may
come too late; the next round's message says which one counted last, and only then does the new vector take over. So the
gateway's control variate stays the mean of the nodes', whatever was lost on the way.
"""

from typing import Any, Dict, Mapping

import numpy as np

from orchestrator.errors import WireError
from orchestrator.node.store import NodeStore
from orchestrator.rounds.scaffold import CONTROL, control_change
from orchestrator.wire.announcing import LastCounted

PENDING = "control.pending"


class NodeControl:
    """A node's control variate at the beginning of a round; `after` says what to keep with the round's release."""

    def __init__(
        self,
        store: NodeStore,
        run: str,
        node: str,
        header: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
        size: int,
    ) -> None:
        """`header` and `tensors` are the round's message; WireError where they do not fit `size` parameters."""
        self.server = np.asarray(tensors.get(CONTROL, np.zeros(size, np.float32)))
        if self.server.shape != (size,) or self.server.dtype != np.float32 or not np.isfinite(self.server).all():
            raise WireError(f"the round's control variate is not float32 ({size},) of finite numbers")
        counted = LastCounted.read(header).counted
        pending, held = store.kept(run, PENDING), store.kept(run, CONTROL)
        if pending is not None and counted.get(node) == pending.round:
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
