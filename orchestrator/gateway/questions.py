"""What nodes are asked: a round's message with the model, the steps of a secure one; and word of the end."""

from typing import Any, Dict, Optional, Tuple

import numpy as np

from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.answers import Answers
from orchestrator.gateway.course import Course
from orchestrator.gateway.run import standardization
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.privacy.participation import secret_sample
from orchestrator.rounds.events import Announce
from orchestrator.rounds.stages import STATISTICS, TRAINING
from orchestrator.rounds.steps import DECRYPT, JOINING_STEPS, MASKED, PREPARED
from orchestrator.wire.announcing import RoundAnnounced
from orchestrator.wire.weight_step import CODEC, WeightStep, digest_of_weights


class Questions:
    """Of one run, in one gateway process."""

    def __init__(self, course: Course, aggregation: Aggregation, announcer: Announcer, answers: Answers) -> None:
        self._course, self._store, self._run, self._task = course, course.store, course.run, course.task
        self._aggregation, self._announcer, self._answers = aggregation, announcer, answers
        self._secure = aggregation if isinstance(aggregation, SecureAggregation) else None

    def ask(self, action: Announce) -> None:
        joining = not action.step or action.step in JOINING_STEPS
        first = (action.step, action.attempt) == (MASKED, PREPARED)
        if joining or first:
            self._ask_round(action)
        if not joining and not (first and self._secure is not None and self._secure.in_one_message(action)):
            self._ask_step(action)

    def end(self, reason: str = "") -> None:
        """The run is over for good. reason: why it failed; it may name other nodes and what they answered, so it stays here."""
        # Nodes with a personal part make their whole model of it and the final shared weights.
        tensors = self._model() if self._task.training.personal_parameters and not reason else {}
        announced = "the run failed; its gateway knows why" if reason else ""
        self._announcer.finished(announced, tensors, self._course.coordinator.online)

    def _ask_round(self, action: Announce) -> None:
        online, holder = set(self._course.coordinator.online), self._task.aggregation.key_holder
        self._course.tell("round", round=action.round, of=self._task.training.rounds, nodes=list(action.nodes))
        everyone = set(action.nodes) == online - {holder}
        everyone = everyone and not secret_sample(self._task)  # others listen too, and would learn that all were drawn
        scores, number = self._aggregation.scores, action.round
        own = (lambda node: scores.own(number, node)) if scores.on(number) else None
        message = (lambda: self._round_message(action)), everyone
        self._announcer.round(action, *message, *self._weight_step(action), own)

    def _ask_step(self, action: Announce) -> None:
        assert self._secure is not None
        self._course.tell(
            "step", round=action.round, attempt=action.attempt, step=action.step, nodes=list(action.nodes)
        )
        self._answers.said_otherwise(action.nodes)
        self._store.sync()  # nodes answer this step once, so what it is made of must not be lost
        if action.step == DECRYPT:
            self._announcer.begin_step()
            self._announcer.pass_on(self._task.aggregation.key_holder, self._secure.passed_on(action))
            return
        request = self._secure.request(action, self._course.counts())
        self._announcer.step(action, request, set(action.nodes) == set(self._course.coordinator.online))

    def _weight_step(self, action: Announce) -> Tuple[str, Optional[WeightStep]]:
        """Digest of this round's weights, empty where weights always travel whole; and what leads to them."""
        if self._task.rounds.weights != CODEC or self._task.stages.of(action.round) == STATISTICS:
            return "", None
        current, step = digest_of_weights(self._aggregation.weights()), self._aggregation.step
        return current, step if step is not None and step.to == current else None

    def _round_message(self, action: Announce) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
        """Header and tensors of a round, the weights among them."""
        number, stage = action.round, self._task.stages.of(action.round)
        tensors: Dict[str, np.ndarray] = {}
        if stage != STATISTICS:
            tensors = self._model()
        fields: Dict[str, Any] = {}
        if self._secure is not None:
            opening, more = self._secure.opening(action, self._course.counts())
            fields.update(opening)
            tensors.update(more)
        if stage == TRAINING:
            beside, more = self._aggregation.broadcast()
            fields.update(beside)
            tensors.update(more)
        return {**RoundAnnounced(self._run, number).written(), **fields}, tensors

    def _model(self) -> Dict[str, np.ndarray]:
        mean, std = standardization(self._store, self._run, self._task)
        shape = self._task.schema.input_shape
        return {"weights": self._aggregation.weights(), "mean": mean.reshape(shape), "std": std.reshape(shape)}
