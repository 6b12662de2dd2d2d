"""The losses of sampled Gaussian mechanisms are dp-accounting's to the bit."""

from typing import Any, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.privacy.gaussian_losses import composition, losses_of

pytestmark = pytest.mark.slow


pytest.importorskip("dp_accounting")  # not on Python 3.8

CASES = [
    (0.762, 0.1, 1e-3),
    (1.1, 0.01, 1e-3),
    (3.3, 0.5, 1e-4),
    (0.3, 0.9, 1e-3),
    (0.2, 3e-4, 1e-3),
    (2.0, 1.0, 1e-3),
    (200.0, 0.99, 1e-4),
    (1.0, 1 - 1e-12, 1e-3),
    (1.0, 1e-12, 1e-3),
]


def check_equal(noise: float, rate: float, step: float) -> None:
    from dp_accounting.pld import privacy_loss_distribution

    theirs = privacy_loss_distribution.from_gaussian_mechanism(
        noise, value_discretization_interval=step, sampling_prob=rate
    )
    ours = losses_of(noise, rate, step)
    epsilons = np.linspace(-3.0, 40.0, 300)
    assert np.array_equal(theirs.get_delta_for_epsilon(epsilons), ours.get_delta_for_epsilon(epsilons))
    for delta in (0.0, 1e-9, 1e-5, 0.1):
        assert theirs.get_epsilon_for_delta(delta) == ours.get_epsilon_for_delta(delta)
    assert theirs.self_compose(7).get_epsilon_for_delta(1e-5) == ours.self_compose(7).get_epsilon_for_delta(1e-5)


@pytest.mark.parametrize(("noise", "rate", "step"), CASES)
def test_losses_are_dp_accountings_to_the_bit(noise: float, rate: float, step: float) -> None:
    check_equal(noise, rate, step)


@given(st.floats(0.5, 50), st.floats(1e-6, 1), st.sampled_from([1e-3, 3e-3]))
def test_of_any_noise_and_rate_too(noise: float, rate: float, step: float) -> None:
    check_equal(noise, rate, step)


@pytest.mark.parametrize(
    "mechanisms", [[], [(2.0, 1.0, 30)], [(1.0, 0.1, 200), (4.0, 1.0, 3)], [(0.8, 0.02, 50), (1.5, 0.3, 9)]]
)
def test_mechanisms_are_composed_as_its_accountant_does(mechanisms: List[Tuple[float, float, int]]) -> None:
    from dp_accounting import dp_event, pld

    accountant = pld.PLDAccountant(value_discretization_interval=1e-3)
    for noise, rate, count in mechanisms:
        event: Any = dp_event.GaussianDpEvent(noise)
        accountant.compose(event if rate == 1 else dp_event.PoissonSampledDpEvent(rate, event), count)
    composed = composition(mechanisms, 1e-3)
    for delta in (1e-8, 1e-5, 1e-3):
        assert accountant.get_epsilon(delta) == composed.get_epsilon_for_delta(delta)
