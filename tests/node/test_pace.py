"""Answers leave on multiples of a public quantum, whatever the round took."""

from types import SimpleNamespace
from typing import Any, List

import pytest

from orchestrator.errors import GraphError, PrivacyError
from orchestrator.node.pace import FLOOR_S, SLACK, Pace, quantum_s
from orchestrator.node.secure_steps import paced


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.mark.parametrize("took", [0.0, 0.01, 0.2, 0.4999])
def test_answers_leave_at_the_same_time_however_long_they_took(took: float) -> None:
    clock = Clock()
    pace = Pace(0.5, clock=clock)
    clock.now += took
    pace.hold(clock.sleep)
    assert clock.now == pytest.approx(1000.5)


@pytest.mark.parametrize(("took", "leaves"), [(0.51, 1.0), (1.0, 1.0), (1.2, 1.5), (7.26, 7.5)])
def test_late_answers_leave_on_a_multiple(took: float, leaves: float) -> None:
    clock = Clock()
    pace = Pace(0.5, clock=clock)
    clock.now += took
    pace.hold(clock.sleep)
    assert clock.now == pytest.approx(1000.0 + leaves)


def test_rounds_without_a_graph_are_not_held_up() -> None:
    clock = Clock()
    pace = Pace(0.0, clock=clock)
    clock.now += 0.3
    pace.hold(clock.sleep)
    assert clock.now == 1000.3


def test_the_quantum_covers_nearly_every_sample() -> None:
    """Binomial samples of a sixth of 3,000 units in each of 4 steps: the largest of many stays inside."""
    import numpy as np

    samples = np.random.default_rng(0).binomial(3000, 1 / 6, size=(20_000, 4)).sum(axis=1)
    quantum = quantum_s(0.001, 3000, 1 / 6, steps=4)
    assert SLACK * 0.001 * samples.max() < quantum < 1.5 * SLACK * 0.001 * samples.mean()


def test_the_quantum_is_of_public_figures() -> None:
    assert quantum_s(0.0, 1000, 0.1) == FLOOR_S
    assert quantum_s(0.001, 1000, 1.0) == pytest.approx(SLACK * 1.0)  # every unit: no more than all of them
    assert quantum_s(0.001, 1000, 1.0, records_per_unit=3) == pytest.approx(SLACK * 3.0)
    assert quantum_s(0.001, 1000, 1.0, other_s=1.0) == pytest.approx(SLACK * 2.0)


@pytest.mark.parametrize("error", [None, PrivacyError("shares were changed"), GraphError("it ended")])
def test_a_vector_is_held_up_whether_or_not_it_can_be_computed(monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    """A gateway can have a step fail after its secret sample was computed: then the time is that of the sample."""
    held: List[float] = []
    monkeypatch.setattr(Pace, "hold", lambda self: held.append(self._quantum))

    def contribute(*_: Any) -> Any:
        if error is not None:
            raise error

    contributor: Any = SimpleNamespace(contribute=contribute)
    run: Any = SimpleNamespace(quantum_s=lambda number: 0.5 * number)
    try:
        paced(run, lambda _: contributor)(1, {}, {}, None)  # type: ignore[arg-type]
    except (PrivacyError, GraphError):
        assert error is not None
    assert held == [0.5]
