"""An accountant that was killed, or could not start, is asked again: a page does not go on saying that it failed."""

import time
from typing import Any, Callable, Dict, List

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.gateway.web import epsilon
from orchestrator.gateway.web.epsilon import EpsilonCurves
from orchestrator.mishaps import sentence
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task
from orchestrator.wire.training import Training


class View:
    """What is asked of a run."""

    run = "heart-0123abcd"
    rounds_begun = 2

    task = Task(
        "heart",
        Schema("table", "y", ("no", "yes"), {"0": 0, "1": 1}, (Feature("x", 0, 1),), standardization="range"),
        {},
        Training(rounds=3),
        Privacy("record", epsilon=3.0, noise_multiplier=1.0),
        Rounds(),
    )

    def records(self) -> Dict[str, int]:
        return {"a": 10}


ANSWER = {"points": [(0, 0.1), (1, 0.5), (3, 1.0)], "statement": {"unit": "record"}}


def until(state: Callable[[], Dict[str, Any]], wanted: str) -> Dict[str, Any]:
    deadline = time.monotonic() + 600
    while state()["state"] != wanted:
        assert time.monotonic() < deadline, state()
        time.sleep(0.01)
    return state()


@pytest.mark.parametrize(
    "error", [PrivacyError("the accountant failed: no word"), BlockingIOError(11, "Resource temporarily unavailable")]
)
def test_a_curve_that_failed_comes_later(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    answers: List[Any] = [error, error, ANSWER]

    def curve(*_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def more(*_: Any) -> Dict[int, float]:
        raise error

    monkeypatch.setattr(epsilon, "curve_apart", curve)
    monkeypatch.setattr(epsilon, "epsilons_apart", more)
    curves = EpsilonCurves()
    view: Any = View()
    failed = until(lambda: curves.of(view), "failed")
    assert failed["reason"] == sentence(error)
    assert until(lambda: curves.statement(view), "failed")["reason"] == failed["reason"]
    assert len(answers) == 2  # not at once
    for _ in range(2):
        curves.curves[view.run].again_at = 0.0
        until(lambda: curves.of(view), "failed" if len(answers) == 2 else "ready")
        if len(answers) == 1:
            assert curves.curves[view.run].again_s == 2 * epsilon.AGAIN_S
    shown = until(lambda: curves.of(view), "ready")
    assert (shown["round"], shown["spent"], shown["exact"]) == (2, 1.0, False)
    asked = curves.curves[view.run].asked
    assert asked is not None
    assert asked.exception() is None  # it failed, which was logged, and the page goes on with what it has
    assert curves.of(view)["state"] == "ready"
    assert curves.curves[view.run].asked is asked
    curves.close()
