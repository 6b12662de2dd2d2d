"""Models that nodes score for each other (strategy fuala): who gets whose in a round, and what comes back.

All of it follows from what is stored: after a crash a node is given the same model again.
"""

from typing import Any, Dict, List, Tuple

import numpy as np

from orchestrator.errors import WireError
from orchestrator.gateway.run_store import STATE_PREFIX, RunStore
from orchestrator.privacy.scoring import makes_sense, within_range
from orchestrator.rounds.fuala import assigned, models_in, standing_in
from orchestrator.rounds.strategy import Update
from orchestrator.wire.announcing import ASSIGNED, ModelAssigned
from orchestrator.wire.answering import Scored
from orchestrator.wire.counted import Counted
from orchestrator.wire.task import Task
from orchestrator.wire.weight_step import digest_of_weights

KEY = "scoring"
"""Secret of a run, by which it is drawn who scores whom."""

STANDING = "generalisation"
"""In a round's result: node -> {score, share} (rounds/fuala.py)."""

MISSCORED = "misscored"
"""In a round's result: nodes that scored another model than they were given."""

NO_ROUND = -2

Tensors = Dict[str, np.ndarray]


class CrossScores:
    """Of one run; of a task with another strategy there is nothing to it."""

    def __init__(self, store: RunStore, run: str, task: Task) -> None:
        self._store, self._run, self._task = store, run, task
        self._misscored: List[str] = []
        self._known: Tuple[int, Tensors] = (NO_ROUND, {})

    def on(self, number: int) -> bool:
        return self._task.scores(number)

    def begin(self) -> None:
        """A round is being computed."""
        self._misscored = []

    def own(self, number: int, node: str) -> Tuple[Dict[str, Any], Tensors]:
        """(header fields, tensors) that go to this node alone; nothing where there is no model of another node yet."""
        owner = self._owner(number, node)
        if not owner:
            return {}, {}
        model = self._models()[owner]
        return ModelAssigned(digest_of_weights(model)).written(), {ASSIGNED: model}

    def check(self, number: int, node: str, header: Dict[str, Any]) -> None:
        """Raises WireError for an answer without the score it owes, or with one that no records come to."""
        if not self._owner(number, node):
            return
        said, stated = Scored.read(header), Counted.read(header).records
        if not makes_sense(self._task, said.score, stated):
            raise WireError(f"score of another node's model of {said.score:.3g}, which no records come to")

    def scored(self, number: int, header: Dict[str, Any], update: Update) -> Update:
        """The update with what its node said of whose model; without where it is not the one it was given."""
        owner = self._owner(number, update.node)
        if not owner:
            return update
        said = Scored.read(header)
        if said.assigned != digest_of_weights(self._models()[owner]):
            self._misscored.append(update.node)
            return update
        return update._replace(scored=owner, score=within_range(self._task, said.score))

    def figures(self, vectors: Dict[str, np.ndarray]) -> Dict[str, Any]:
        """Of a round: what it came to, from the vectors it leaves."""
        standing = standing_in(
            {name[len(STATE_PREFIX) :]: v for name, v in vectors.items() if name.startswith(STATE_PREFIX)}
        )
        found: Dict[str, Any] = {STANDING: standing} if standing else {}
        return {**found, MISSCORED: list(self._misscored)} if self._misscored else found

    def _owner(self, number: int, node: str) -> str:
        """Whose model the node scores in this round; "" for nobody's."""
        models = self._models() if self.on(number) else {}
        owner = assigned([node], models, number, self._store.secret(self._run, KEY)).get(node, "") if models else ""
        # A node does not score its own model, and another may have come to the very same one, also to have it fail.
        return "" if owner and node in models and np.array_equal(models[owner], models[node]) else owner

    def _models(self) -> Tensors:
        """Read once a round, and not for every node's message and answer."""
        newest = self._store.newest_round(self._run)
        if self._known[0] != newest or not self._known[1]:
            stored = self._store.vectors(self._run, STATE_PREFIX)
            found = models_in({name[len(STATE_PREFIX) :]: vector for name, vector in stored.items()})
            self._known = newest, {node: model.astype(np.float32) for node, model in found.items()}
        return self._known[1]
