"""What a run's figures steer: which round's weights are the best so far, and when it had better stop."""

from typing import Any, Dict, Optional, Tuple

import numpy as np

from orchestrator.gateway.outcome import Outcome
from orchestrator.gateway.run_store import RunStore
from orchestrator.gateway.scores import STEERS_WITHIN, steers
from orchestrator.rounds.stages import FIRST_ROUND
from orchestrator.wire.task import Task
from orchestrator.wire.training import FALLING


class Steering:
    """Of one run, for `training.best` and `patience`. What earlier rounds came to is read from the store, once."""

    def __init__(self, store: RunStore, run: str, task: Task) -> None:
        self._store, self._run, self._task = store, run, task
        self._compared = FIRST_ROUND  # the newest round that counts in the next two
        self._best: Optional[Tuple[float, int]] = None  # score of the best round, and its number negated
        self._was_noisy = False

    @property
    def wanted(self) -> bool:
        return self._task.training.best or self._task.training.patience > 0

    def compare(self, number: int, said: Dict[str, Any], weights: np.ndarray, outcome: Outcome) -> None:
        """Keeps the weights of the best round, and says when there was no better one for `patience` rounds."""
        training = self._task.training
        if not self.wanted:
            return
        self._look_back(number)
        best, score = self._best, self._score(said)
        if score is None and self._task.evaluation.on:
            if not self._was_noisy:
                outcome.notice = self._cannot_steer(said)
        elif score is not None and (best is None or score > best[0]):
            outcome.vectors["best"] = weights
        elif training.patience and best is not None:
            outcome.stop = number + best[1] >= training.patience

    def _look_back(self, number: int) -> None:
        """Takes the rounds before `number` into account that were not yet: what they came to is final."""
        for result in self._store.each_result(self._run, self._compared + 1):
            if result["round"] >= number:
                return
            said = result.get("federated", {}) if self._task.evaluation.on else result
            score = self._score(said)
            if score is not None:
                self._best = max(self._best or (score, -result["round"]), (score, -result["round"]))
            self._was_noisy |= result.get("federated", {}).get("steers") is False
            self._compared = result["round"]

    def _cannot_steer(self, said: Dict[str, Any]) -> str:
        metric = self._task.training.metric
        half = said.get("noise", {}).get(metric)
        moved = "drowns it" if half is None else f"moves it by {half:.2g}"
        return (
            f"best and patience do not go by {metric}: the noise of federated evaluation {moved} (95 %), more than "
            f"{STEERS_WITHIN:g}. The result is the last round's unless a later one shows better, and nothing stops early"
        )

    def _score(self, said: Dict[str, Any]) -> Optional[float]:
        """The task's metric, the higher the better; None where it was not measured, or is mostly noise."""
        metric, private = self._task.training.metric, self._task.privacy.on and self._task.evaluation.on
        if not steers(said, metric, private):
            return None
        return -float(said[metric]) if metric in FALLING else float(said[metric])
