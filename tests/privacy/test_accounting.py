"""The accountant against published closed forms and an independent computation; planning against the accountant."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, Dict, List

import pytest

from orchestrator.errors import PrivacyError
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Task
from orchestrator.wire.training import Training

pytest.importorskip("dp_accounting")

from orchestrator.privacy import gaussian_losses
from orchestrator.privacy.accounting import correction_of, epsilon_by_round, epsilon_spent, plan_noise
from orchestrator.privacy.charges import Charge, epsilon_of
from orchestrator.privacy.statement import statement


def task(privacy: Privacy, rounds: int = 30, statistics: bool = True) -> Task:
    schema = Schema(
        "table",
        "y",
        ("a", "b"),
        {"0": 0},
        (Feature("x", 0, 1),),
        standardization="federated" if statistics else "range",
    )
    return Task("t", schema, {"kind": "mlp"}, Training("fedsgd", rounds), privacy)


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """The exact trade-off of one Gaussian mechanism of sensitivity 1 (Balle and Wang 2018, Theorem 8), by bisection."""

    def phi(t: float) -> float:
        return 0.5 * math.erfc(-t / math.sqrt(2))

    def delta_at(epsilon: float) -> float:
        return phi(0.5 / sigma - epsilon * sigma) - math.exp(epsilon) * phi(-0.5 / sigma - epsilon * sigma)

    low, high = 0.0, 200.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (2.0, 10), (5.0, 30), (0.8, 3)])
def test_without_sampling_it_equals_the_exact_gaussian_formula(noise: float, steps: int) -> None:
    stated = task(Privacy(delta=1e-5, sampling_rate=1.0, noise_multiplier=noise), steps, statistics=False)
    # T Gaussian mechanisms of noise z are one of noise z / sqrt(T); the stated count is one more, of noise 5 z.
    expected = gaussian_epsilon(noise / math.sqrt(steps + 1 / 25), 1e-5)
    assert epsilon_spent(stated) == pytest.approx(expected, rel=0.01)


def test_the_statistics_release_is_charged() -> None:
    noises: Dict[str, Any] = {"noise_multiplier": 3.0, "statistics_noise_multiplier": 4.0, "statistics_clip_norm": 1.0}
    combined = 1 / math.sqrt(10 / 3.0**2 + 1 / 4.0**2 + 1 / 15.0**2)
    stated = task(Privacy(delta=1e-5, sampling_rate=1.0, **noises), 10)
    assert epsilon_spent(stated) == pytest.approx(gaussian_epsilon(combined, 1e-5), rel=0.01)


def sampled_epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    """Poisson-subsampled Gaussian by numerical convolution of the privacy loss of the worst neighbouring pair.

    P = (1-q) N(0, s^2) + q N(1, s^2) against Q = N(0, s^2) (remove), and the reverse (add); our own 40 lines, numpy FFT.
    """
    import numpy as np

    worst = 0.0
    grid, half = 1e-3, 24.0
    size = 2 * int(half / grid)
    x = np.linspace(-12 * noise, 1 + 12 * noise, 400_001)
    dx = x[1] - x[0]

    def normal(mean: float) -> Any:
        return np.exp(-((x - mean) ** 2) / (2 * noise**2)) / (noise * math.sqrt(2 * math.pi))

    q_density = normal(0)
    p_density = (1 - rate) * q_density + rate * normal(1)
    for top, bottom in ((p_density, q_density), (q_density, p_density)):
        loss = np.log(np.maximum(top, 1e-300)) - np.log(np.maximum(bottom, 1e-300))
        index = np.round(loss / grid).astype(int) + size // 2
        inside = (index >= 0) & (index < size)
        mass = np.bincount(index[inside], top[inside] * dx, minlength=size)
        composed = np.fft.irfft(np.fft.rfft(np.fft.ifftshift(mass)) ** steps, size)
        composed = np.fft.fftshift(composed)
        losses = (np.arange(size) - size // 2) * grid
        low, high = 0.0, half
        for _ in range(60):
            middle = (low + high) / 2
            value = composed[losses > middle] @ (1 - np.exp(middle - losses[losses > middle]))
            low, high = (middle, high) if value > delta else (low, middle)
        worst = max(worst, high)
    return worst


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.25, 30), (2.0, 0.1, 50), (0.92, 0.25, 30)])
def test_with_sampling_it_equals_an_independent_convolution(noise: float, rate: float, steps: int) -> None:
    ours = epsilon_of([Charge("training", noise, rate, steps)], 1e-3)
    assert ours == pytest.approx(sampled_epsilon(noise, rate, steps, 1e-3), rel=0.01)


def test_the_published_figure_of_the_field_notes() -> None:
    # sigma = 1, q = 1, T = 100, delta = 1e-5 gives 91.8 (a plain Gaussian with PLD).
    assert epsilon_of([Charge("training", 1.0, 1.0, 100)], 1e-5) == pytest.approx(91.8, rel=0.01)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_planned_noise_meets_the_target_closely_and_never_exceeds_it(epsilon: float) -> None:
    planned = plan_noise(task(Privacy(epsilon=epsilon, delta=1e-3)))
    assert 0.97 * epsilon < epsilon_spent(planned) <= epsilon
    assert planned.privacy.statistics_clip_norm > 0


def test_stated_noise_is_kept() -> None:
    planned = plan_noise(task(Privacy(epsilon=50, delta=1e-3, noise_multiplier=1.5, statistics_noise_multiplier=3.0)))
    assert (planned.privacy.noise_multiplier, planned.privacy.statistics_noise_multiplier) == (1.5, 3.0)


def test_the_impossible_is_refused_with_numbers() -> None:
    impossible = task(Privacy(epsilon=1e-4, delta=1e-9, sampling_rate=1.0), rounds=5000)
    with pytest.raises(PrivacyError, match="epsilon 0.0001 at delta 1e-09 cannot be met with 5000 steps.*would spend"):
        plan_noise(impossible)


def test_no_noise_is_no_privacy() -> None:
    assert epsilon_spent(task(Privacy(noise_multiplier=0.0), 1, statistics=False)) == math.inf


def test_the_accountant_apart_answers_like_the_one_within() -> None:
    from orchestrator.privacy.accounting_process import plan_apart, statement_apart

    asked = task(Privacy(epsilon=4, delta=1e-3, sampling_rate=1.0))
    planned, spent = plan_apart(asked)
    assert planned == plan_noise(asked)
    assert spent == pytest.approx(epsilon_spent(planned), rel=1e-9)
    apart, within = statement_apart(planned, {"a": 5}), statement(planned, {"a": 5})
    assert apart.keys() == within.keys()
    assert apart["epsilon"] == pytest.approx(within["epsilon"], rel=1e-9)
    assert apart["not_covered"] == within["not_covered"]
    with pytest.raises(PrivacyError, match=r"spends epsilon .* more than its epsilon 1: raise noise_multiplier"):
        plan_apart(
            task(
                Privacy(
                    epsilon=1,
                    delta=1e-3,
                    sampling_rate=1.0,
                    noise_multiplier=0.5,
                    statistics_noise_multiplier=1.0,
                    statistics_clip_norm=1.0,
                )
            )
        )


def test_evaluation_has_noise_of_its_own_planned_for_all_its_releases() -> None:
    """Held-out records see Gaussian releases only: k of them are one with noise / sqrt(k)."""
    wanted = replace(
        task(Privacy(delta=1e-5, epsilon=2.0, sampling_rate=1.0), rounds=6), evaluation=Evaluation(share=0.2, every=2)
    )
    assert wanted.evaluations == 3
    planned = plan_noise(wanted)
    noise = planned.privacy.evaluation_noise_multiplier
    exact = gaussian_epsilon(noise / math.sqrt(3), 1e-5)
    assert 1.97 < exact <= 2.0
    assert epsilon_spent(planned, group="held-out") == pytest.approx(exact, rel=0.01)
    said = statement(planned, {"a": 100})
    assert said["epsilon"] <= 2.0
    assert "released 3 times" in said["evaluation"]
    assert statement(task(planned.privacy), {"a": 100})["evaluation"] == "none released"


def test_a_curve_ends_where_the_statement_does_and_never_falls() -> None:
    """Both trainings, statistics and evaluation in it; each point is what ending there would have spent."""
    privacy = Privacy(
        delta=1e-4,
        sampling_rate=1.0,
        noise_multiplier=6.0,
        statistics_noise_multiplier=9.0,
        statistics_clip_norm=1.0,
        evaluation_noise_multiplier=4.0,
    )
    stated = replace(task(privacy, rounds=5), evaluation=Evaluation(share=0.2, every=2))
    points = dict(epsilon_by_round(stated, run=2))
    assert sorted(points) == [0, 1, 2, 3, 4, 5, 6]
    values = [points[number] for number in sorted(points)]
    assert values == sorted(values)
    assert points[6] == pytest.approx(epsilon_spent(stated, run=2), rel=1e-9)
    # Round 3 of training 2: 8 steps, 2 releases of statistics and 2 stated counts on records trained on; 4 evaluations on
    # those held out.
    trained = gaussian_epsilon((8 / 6.0**2 + 2 / 9.0**2 + 2 / 30.0**2) ** -0.5, 1e-4)
    held_out = gaussian_epsilon(4.0 / math.sqrt(4), 1e-4)
    assert stated.evaluations == 3
    assert points[3] == pytest.approx(max(trained, held_out), rel=1e-6)


def test_losses_of_equal_rounds_are_computed_once_and_are_those_of_the_accountant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: List[float] = []

    def counted(noise_multiplier: float, sampling_rate: float, discretization: float) -> Any:
        made.append(noise_multiplier)
        return make(noise_multiplier, sampling_rate, discretization)

    make = gaussian_losses.losses_of.__wrapped__

    noises: Dict[str, Any] = {"noise_multiplier": 1.37, "statistics_noise_multiplier": 4.1, "statistics_clip_norm": 1.0}
    with monkeypatch.context() as patch:
        patch.setattr(gaussian_losses, "losses_of", lru_cache(counted))
        points = dict(epsilon_by_round(task(Privacy(delta=1e-4, sampling_rate=0.1, **noises), rounds=8)))
    assert len(points) == 9
    assert len(made) == len(set(made)) == 3, "of training, statistics and the count"
    for number in (3, 8):
        ended = task(Privacy(delta=1e-4, sampling_rate=0.1, **noises), rounds=number)
        assert points[number] == pytest.approx(epsilon_spent(ended), rel=1e-4)


def test_noise_of_whole_numbers_is_charged_for_what_it_is() -> None:
    """Skellam noise costs a little more than Gaussian, planned noise covers it, and what cannot be drawn is refused at once."""
    privacy = Privacy(delta=1e-4, sampling_rate=1.0, epsilon=2.0)
    spent = {}
    for mechanism in ("discrete-gaussian", "skellam"):
        stated = task(replace(privacy, mechanism=mechanism, noise_multiplier=12.0), 30, statistics=False)
        correction = correction_of(stated)
        spent[mechanism] = epsilon_spent(stated)
        of_all = 12 / math.sqrt(30 + 1 / 25)
        exact = gaussian_epsilon(of_all, 1e-4 * math.exp(-correction.eta)) + 2 * correction.eta
        assert spent[mechanism] == pytest.approx(exact, rel=1e-8)
        assert epsilon_spent(plan_noise(task(replace(privacy, mechanism=mechanism), 30, statistics=False))) <= 2.0
    assert spent["skellam"] > spent["discrete-gaussian"] * (1 + 1e-7)
    large = task(replace(privacy, mechanism="skellam", noise_multiplier=12.0), 30, statistics=False)
    large = replace(large, training=replace(large.training, parameters=10**7))
    with pytest.raises(PrivacyError, match="skellam noise of std .* cannot be drawn.*discrete-gaussian"):
        epsilon_spent(large)
