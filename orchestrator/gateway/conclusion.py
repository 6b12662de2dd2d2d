"""The end of a round: what it comes to is computed, kept in one transaction, and shown."""

from typing import Any, Callable, Dict, Optional

import numpy as np

from orchestrator.errors import PrivacyError, RoundError
from orchestrator.gateway.aggregation import Aggregation
from orchestrator.gateway.announcer import Announcer
from orchestrator.gateway.course import Course
from orchestrator.gateway.figures import ANSWERS, Figures
from orchestrator.gateway.outcome import Outcome
from orchestrator.gateway.run_store import PARTIAL
from orchestrator.privacy.standardization import constant_warning, floor_warning
from orchestrator.rounds.events import Aggregate, Aggregated, Unopened
from orchestrator.rounds.secure import SecureCoordinator

HandUp = Callable[[int, np.ndarray, int], None]
"""(round, vector, records): gives a round's partial sum to the half of a relay that answers a higher gateway."""


class Conclusion:
    """Of one run's rounds, in one gateway process."""

    def __init__(
        self,
        course: Course,
        aggregation: Aggregation,
        announcer: Announcer,
        figures: Figures,
        hand_up: Optional[HandUp],
    ) -> None:
        self._course, self._store, self._run = course, course.store, course.run
        self._aggregation, self._announcer, self._figures, self._hand_up = aggregation, announcer, figures, hand_up

    def conclude(self, action: Aggregate) -> None:
        """Raises RoundError where the run cannot go on with what nodes sent; nothing of it is kept then."""
        course, number = self._course, action.round
        course.tell("aggregating", round=number, nodes=list(action.nodes))
        if isinstance(course.coordinator, SecureCoordinator) and not action.nodes:
            course.tell("unopened", round=number, reason=course.coordinator.skip_reason)
        try:
            outcome = self._aggregation.outcome(action, float(sum(course.records.values())))
        except PrivacyError as error:
            if not course.task.aggregation.secure:
                raise RoundError(f"run {self._run}, round {number}: {error}") from error
            course.happen(Unopened(course.now(), number, str(error)))
            return
        wrong = outcome.not_finite()
        if wrong:
            raise RoundError(
                f"run {self._run}, round {number}: {wrong} is not a finite number; nothing of it was kept. The run stays "
                "before this round: look at the learning rate and at what nodes send, and begin one with another task"
            )
        result = {**self._figures.of_round(action), **outcome.figures}
        event = Aggregated(course.now(), number, outcome.stop)
        self._keep(event, outcome, result)
        self._announcer.close_round()
        self._show(number, outcome, result)
        if self._hand_up is not None and PARTIAL in outcome.vectors:
            self._hand_up(number, outcome.vectors[PARTIAL], int(outcome.figures["records"]))
        course.follow(event)

    def _keep(self, event: Aggregated, outcome: Outcome, result: Dict[str, Any]) -> None:
        store, run = self._store, self._run
        with store.transaction():
            for name, vector in outcome.vectors.items():
                store.put_vector(run, name, vector)
            if outcome.evaluated is not None:
                store.add_to_result(run, *outcome.evaluated)
            store.put_result(run, event.round, result)
            store.drop_updates(run, event.round)
            store.drop_answers(run, event.round)
            store.append(run, event)

    def _show(self, number: int, outcome: Outcome, result: Dict[str, Any]) -> None:
        tell, training = self._course.tell, self._course.task.training
        if outcome.evaluated is not None:
            tell("evaluated", round=outcome.evaluated[0], **outcome.evaluated[1])
        for figure, warning in (("on_floor", floor_warning), ("constant", constant_warning)):
            named = outcome.figures.get(figure, [])
            if named:
                tell("on_floor", columns=named, reason=warning(named))
        if outcome.notice:
            tell("not_steered", round=number, notice=outcome.notice)
        shortened = outcome.figures.get("shortened", [])
        if shortened:
            tell("shortened", round=number, nodes=shortened, names=", ".join(shortened))
        shown = {name: value for name, value in result.items() if name != ANSWERS}
        tell("aggregated", of=training.rounds, **shown)
        if outcome.stop and not self._course.task.trains:
            if number < training.rounds:
                tell("converged", round=number)
        elif outcome.stop:
            tell("stopped_early", round=number, patience=training.patience)
