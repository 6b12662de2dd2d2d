"""Epsilon spent over the rounds of a run: computed once a run by the accountant's own process, then kept."""

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.gateway.history import training_number
from orchestrator.gateway.web.runview import RunView
from orchestrator.privacy.accounting_process import curve_apart, end
from orchestrator.privacy.statement_page import NOTHING

log = logging.getLogger("edgeward.dashboard")

_STATED = (
    "unit",
    "adjacency",
    "accountant",
    "claim",
    "mechanism",
    "noise_at",
    "holds_against",
    "local",
    "sampling",
    "statistics",
    "composition",
    "not_covered",
)


class EpsilonCurves:
    """One accountant at a time, in the background; a run's curve depends on its task alone."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "accountant")
        self._curves: Dict[str, Future[Dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def of(self, view: RunView) -> Dict[str, Any]:
        """What the page shows of a run's privacy; `state` says whether the accountant is done."""
        privacy = view.task.privacy
        if not privacy.on:
            return {"state": "none", "unit": "none", "claim": NOTHING}
        shown: Dict[str, Any] = {
            "unit": privacy.unit,
            "budget": privacy.epsilon,
            "delta": privacy.delta,
            "trainings": privacy.runs,
            "training": training_number(view.run),
            "clip_norm": privacy.clip_norm,
            "noise_multiplier": privacy.noise_multiplier,
        }
        future = self._future(view)
        # Until the accountant is done: the noise was planned so that all rounds together spend no more than the budget.
        if not future.done():
            return {**shown, "state": "computing", "planned": privacy.epsilon}
        error = future.exception()
        if error is not None:
            return {**shown, "state": "failed", "planned": privacy.epsilon, "reason": str(error)}
        answer = future.result()
        points = [(int(number), float(epsilon)) for number, epsilon in answer["points"]]
        stated = {name: answer["statement"].get(name) for name in _STATED}
        return {**shown, **stated, "state": "ready", "points": points, "spent": spent(points, view.rounds_begun)}

    def statement(self, view: RunView) -> Dict[str, Any]:
        """What will be stated of a run if all its rounds go as declared: {state, statement} or {state, reason}."""
        if not view.task.privacy.on:
            return {"state": "planned", "statement": {"unit": "none", "claim": NOTHING}}
        answer = self._future(view)
        if not answer.done():
            return {"state": "computing"}
        if answer.exception() is not None:
            return {"state": "failed", "reason": str(answer.exception())}
        return {"state": "planned", "statement": answer.result()["statement"]}

    def _future(self, view: RunView) -> "Future[Dict[str, Any]]":
        with self._lock:
            if view.run not in self._curves:
                self._curves[view.run] = self._pool.submit(
                    _compute, view.task, view.records(), training_number(view.run)
                )
            return self._curves[view.run]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        end()  # a long run's curve takes half a minute


def _compute(*question: Any) -> Dict[str, Any]:
    try:
        return curve_apart(*question)
    except PrivacyError as error:
        log.info("no epsilon for the dashboard: %s", error)  # the page says it
        raise


def spent(points: List[Tuple[int, float]], rounds_begun: int) -> Optional[float]:
    """Epsilon of the first point that covers what may be out by now: never less than was spent. 0 before anything is."""
    if rounds_begun < 0 or (rounds_begun == 0 and points[0][0] > 0):
        return 0.0
    return next((epsilon for number, epsilon in points if number >= rounds_begun), points[-1][1])
