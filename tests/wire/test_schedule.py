"""Schedules against tables worked out by hand, and what every one of them must hold."""

from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.wire.schedule import SCHEDULES, learning_rate_at
from orchestrator.wire.training import Training


def rates(rounds: int, **options: Any) -> List[float]:
    training = Training(rounds=rounds, learning_rate=0.8, **options)
    return [training.learning_rate_at(number) for number in range(1, rounds + 1)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.8, 0.8, 0.8, 0.8]),
        ({"schedule": "step", "decay": 0.5, "decay_every": 2}, [0.8, 0.8, 0.4, 0.4]),
        ({"schedule": "step", "decay": 0.1, "decay_every": 1, "warmup_rounds": 1}, [0.4, 0.8, 0.08, 0.008]),
        ({"schedule": "cosine"}, [0.8, 0.4 + 0.4 * 0.5**0.5, 0.4, 0.4 - 0.4 * 0.5**0.5]),
        ({"schedule": "cosine", "final_share": 0.5, "warmup_rounds": 2}, [0.8 / 3, 1.6 / 3, 0.8, 0.6]),
        ({"schedule": "inverse-sqrt", "decay_every": 1}, [0.8, 0.8 / 2**0.5, 0.8 / 3**0.5, 0.4]),
        ({"warmup_rounds": 3}, [0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_schedules_by_hand(options: Dict[str, Any], expected: List[float]) -> None:
    assert rates(4, **options) == pytest.approx(expected)


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
    st.sampled_from(SCHEDULES),
    st.floats(1e-6, 10),
    st.floats(0.05, 1),
    st.integers(1, 50),
    st.floats(0, 1),
)
def test_a_rate_is_positive_never_above_the_top_and_falls_after_the_warm_up(
    shape: Any, schedule: str, top: float, decay: float, every: int, share: float
) -> None:
    rounds, warmup = shape
    values = [learning_rate_at(r, rounds, top, schedule, warmup, decay, every, share) for r in range(1, rounds + 1)]
    assert all(0 < v <= top * (1 + 1e-12) for v in values)
    assert all(a < b for a, b in zip(values[:warmup], values[1 : warmup + 1]))
    assert all(a >= b - 1e-12 * top for a, b in zip(values[warmup:], values[warmup + 1 :]))
    assert values[warmup] == pytest.approx(top)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"schedule": "exponential"}, "schedule 'exponential': expected one of constant, step, cosine, inverse-sqrt"),
        ({"rounds": 5, "warmup_rounds": 5}, "warmup_rounds: 5, expected 0 to rounds - 1 = 4"),
        ({"decay": 0.0}, "decay: 0.0, expected a number in"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(options: Dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Training(**options)
