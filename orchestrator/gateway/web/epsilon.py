"""Epsilon spent over the rounds of a run: by the accountant's own process, a curve once a run and the open round as it comes."""

import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.gateway.history import training_number
from orchestrator.gateway.web.runview import RunView
from orchestrator.mishaps import sentence
from orchestrator.privacy.accounting_process import curve_apart, end, epsilons_apart
from orchestrator.privacy.releases import work_of
from orchestrator.privacy.statement_page import nothing_claimed
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.task import Task

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


_AHEAD = 8
"""Rounds the accountant is asked for at a time beyond the curve: the open one and the next."""
_KEPT = 64
"""Rounds beyond the curve that are kept: the page gets no more points after thousands of rounds than at the beginning."""
_REST = 4.0
"""For so many times as long as it took, the accountant is not asked for further rounds."""

AGAIN_S, _MOST_AGAIN_S = 60.0, 3600.0
"""After a failure the accountant is asked again, each time twice as late: it may have been killed, or not have started."""

Points = List[Tuple[int, float]]


@dataclass
class _Curve:
    """Of one run: what the accountant said of its rounds, and what it was asked besides."""

    answer: "Future[Dict[str, Any]]"
    again_s: float = AGAIN_S
    again_at: float = math.inf
    more: Dict[int, float] = field(default_factory=dict)
    asked: Optional["Future[None]"] = None
    rests_until: float = 0.0

    def points(self) -> Points:
        found = {int(number): float(epsilon) for number, epsilon in self.answer.result()["points"]}
        return sorted({**found, **self.more}.items())


class EpsilonCurves:
    """One accountant at a time, in the background. A run's curve depends on its task alone; the open round is asked for apart."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "accountant")
        self.curves: Dict[str, _Curve] = {}
        self._lock = threading.Lock()

    def of(self, view: RunView) -> Dict[str, Any]:
        """What the page shows of a run's privacy; `state` says whether the accountant is done.

        `spent` covers `round`, and is the accountant's number for it where `exact`; else that of a later round, which is more.
        """
        privacy = view.task.privacy
        if not privacy.on:
            return {"state": "none", "unit": "none", "claim": nothing_claimed(view.task)["claim"]}
        shown: Dict[str, Any] = {
            "unit": unit_of(privacy),
            "budget": privacy.epsilon,
            "delta": privacy.delta,
            "trainings": privacy.runs,
            "training": training_number(view.run),
            "clip_norm": privacy.clip_norm,
            "noise_multiplier": work_of(view.task).noise_multiplier,
        }
        curve = self._curve(view)
        # Until the accountant is done: the noise was planned so that all rounds together spend no more than the budget.
        if not curve.answer.done():
            return {**shown, "state": "computing", "planned": privacy.epsilon}
        error = curve.answer.exception()
        if error is not None:
            return {**shown, "state": "failed", "planned": privacy.epsilon, "reason": sentence(error)}
        begun, points = min(view.rounds_begun, view.task.last_round), curve.points()
        if begun > 0:
            self._ask_ahead(view, curve, begun, dict(points))
        stated = {name: curve.answer.result()["statement"].get(name) for name in _STATED}
        exact = begun < points[0][0] or begun in dict(points)
        return {**shown, **stated, "state": "ready", "points": points, **_spent(points, begun), "exact": exact}

    def statement(self, view: RunView) -> Dict[str, Any]:
        """What will be stated of a run if all its rounds go as declared: {state, statement} or {state, reason}."""
        if not view.task.privacy.on:
            return {"state": "planned", "statement": nothing_claimed(view.task)}
        answer = self._curve(view).answer
        if not answer.done():
            return {"state": "computing"}
        error = answer.exception()
        if error is not None:
            return {"state": "failed", "reason": sentence(error)}
        return {"state": "planned", "statement": answer.result()["statement"]}

    def _curve(self, view: RunView) -> _Curve:
        question = (view.task, view.records(), training_number(view.run))
        with self._lock:
            curve = self.curves.get(view.run)
            if curve is None:
                curve = self.curves[view.run] = _Curve(self._pool.submit(_compute, *question))
            elif curve.answer.done() and curve.answer.exception() is not None:
                now = time.monotonic()
                curve.again_at = min(curve.again_at, now + curve.again_s)
                if now >= curve.again_at:
                    curve.again_at, curve.again_s = math.inf, min(2 * curve.again_s, _MOST_AGAIN_S)
                    curve.answer = self._pool.submit(_compute, *question)
            return curve

    def _ask_ahead(self, view: RunView, curve: _Curve, begun: int, known: Dict[int, float]) -> None:
        last = view.task.last_round
        with self._lock:
            busy = curve.asked is not None and not curve.asked.done()
            soon = range(begun, min(begun + _AHEAD // 2, last + 1))
            if busy or time.monotonic() < curve.rests_until or all(number in known for number in soon):
                return
            wanted = [number for number in range(begun, min(begun + _AHEAD, last + 1)) if number not in known]
            curve.asked = self._pool.submit(self._compute_more, view.task, training_number(view.run), curve, wanted)

    @staticmethod
    def _compute_more(task: Task, run: int, curve: _Curve, wanted: List[int]) -> None:
        began = time.monotonic()
        try:
            found = {**curve.more, **epsilons_apart(task, run, wanted)}
            curve.more = dict(sorted(found.items())[-_KEPT:])  # in one step: another thread reads it
        except Exception as error:  # whatever it was, the page shows what the curve has
            log.warning("no epsilon of rounds %d to %d for the dashboard: %s", wanted[0], wanted[-1], sentence(error))
            curve.rests_until = time.monotonic() + curve.again_s
            curve.again_s = min(2 * curve.again_s, _MOST_AGAIN_S)
            return
        curve.rests_until = time.monotonic() + _REST * (time.monotonic() - began)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        end()  # a long run's curve takes half a minute


def _compute(*question: Any) -> Dict[str, Any]:
    try:
        return curve_apart(*question)
    except Exception as error:
        log.info("no epsilon for the dashboard: %s", sentence(error))  # the page says it
        raise


def _spent(points: Points, begun: int) -> Dict[str, Any]:
    """Epsilon of the first point that covers what may be out by now: never less than was spent. 0 before anything is."""
    if begun < 0 or (begun == 0 and points[0][0] > 0):
        return {"round": begun, "spent": 0.0}
    return {"round": begun, "spent": next((epsilon for number, epsilon in points if number >= begun), points[-1][1])}
