"""The comparison of discrete noise with a rounded Gaussian, against exact enumeration and arbitrary precision."""

import math
from typing import Any, Dict, Tuple

import numpy as np
import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy import closeness
from orchestrator.privacy.closeness import Correction, correction
from orchestrator.privacy.lattice import MECHANISMS, party_variance

mpmath = pytest.importorskip("mpmath")


def laws(mechanism: str, std: int, parties: int, gaussian_std: float) -> Tuple[np.ndarray, np.ndarray]:
    """Probabilities of -a .. a for the real noise, by convolving parties, and for the rounded Gaussian."""
    variance = party_variance(mechanism, std)
    reach = 14 * std + 20

    def party(k: int) -> float:
        if mechanism == "skellam":
            return float(mpmath.exp(-variance) * mpmath.besseli(k, variance))
        return math.exp(-k * k / (2 * variance))

    half = [party(k) for k in range(reach + 1)]
    one = np.array(half[:0:-1] + half)
    one /= one.sum()
    real = one
    for _ in range(parties - 1):
        real = np.convolve(real, one)
    a = len(real) // 2
    scale = gaussian_std * math.sqrt(2)
    # From above, where differences of erfc keep their digits.
    side = [0.5 * (math.erfc((k - 0.5) / scale) - math.erfc((k + 0.5) / scale)) for k in range(a + 1)]
    return real, np.array(side[:0:-1] + side)


def hockey_stick(p: np.ndarray, q: np.ndarray, epsilon: float) -> float:
    """The least delta with P(A) <= e^epsilon Q(A) + delta for all events A."""
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


def product(law: np.ndarray, values: int) -> np.ndarray:
    joint = law
    for _ in range(values - 1):
        joint = np.multiply.outer(joint, law).ravel()
    return joint


CASES = [
    ("discrete-gaussian", 1, 1, 3),
    ("discrete-gaussian", 2, 1, 2),
    ("discrete-gaussian", 1, 2, 2),
    ("discrete-gaussian", 3, 4, 1),
    ("skellam", 2, 1, 2),
    ("skellam", 3, 2, 2),
    ("skellam", 5, 1, 2),
]


@pytest.mark.parametrize("log10_delta", [-2.0, -4.0, -8.0])
@pytest.mark.parametrize(("mechanism", "std", "parties", "values"), CASES)
def test_real_and_rounded_noise_are_as_close_as_claimed(
    mechanism: str, std: int, parties: int, values: int, log10_delta: float
) -> None:
    found = correction(mechanism, std, parties, values, log10_delta)
    real, rounded = (product(law, values) for law in laws(mechanism, std, parties, found.gaussian_std))
    assert found.delta == pytest.approx(10**log10_delta)
    assert hockey_stick(real, rounded, found.eta) <= found.delta
    assert hockey_stick(rounded, real, found.eta) <= found.delta


def least_eta(p: np.ndarray, q: np.ndarray, values: int, delta: float, grid: float) -> float:
    """A lower bound, at most values * grid too low, on the eta at which p^values and q^values are (eta, delta)-close one way.

    By convolving the law of ln p / q, rounded down to the grid.
    """
    kept = (p > 1e-40) & (q > 1e-40)
    index = np.floor(np.log(p[kept] / q[kept]) / grid).astype(np.int64)
    size = 1 << 21
    inside = np.abs(index) < size // 4
    law = np.bincount(index[inside] % size, p[kept][inside], size)
    total = np.fft.irfft(np.fft.rfft(law) ** values, size)[: size // 2]  # the sums of 0 and more
    sums = np.arange(size // 2) * grid
    low, high = 0.0, float(sums[-1])
    while high - low > grid:
        middle = (low + high) / 2
        over = sums > middle
        close = np.dot(total[over], -np.expm1(middle - sums[over])) <= delta
        low, high = (low, middle) if close else (middle, high)
    return low


@pytest.mark.parametrize(("mechanism", "std"), [("discrete-gaussian", 4), ("skellam", 24)])
def test_for_many_values_the_claim_is_true_and_not_twice_what_is_needed(mechanism: str, std: int) -> None:
    values, log10_delta = 4096, -8
    found = correction(mechanism, std, 1, values, log10_delta)
    real, rounded = laws(mechanism, std, 1, found.gaussian_std)
    needed = [least_eta(p, q, values, found.delta, found.eta * 2e-6) for p, q in ((real, rounded), (rounded, real))]
    assert max(needed) <= found.eta < 2 * max(needed)


@pytest.mark.parametrize(
    ("mechanism", "std", "parties"), [("discrete-gaussian", 1, 2), ("discrete-gaussian", 2, 1), ("skellam", 4, 1)]
)
@pytest.mark.parametrize("shift", [1, 3])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_the_claim_for_the_real_mechanism_holds(
    mechanism: str, std: int, parties: int, shift: int, rate: float
) -> None:
    """Two releases of a sum that a record changes by `shift` steps, the record sampled with probability `rate` each time."""
    found = correction(mechanism, std, parties, 2, -6)
    real, rounded = laws(mechanism, std, parties, found.gaussian_std)

    def with_and_without(law: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        moved = np.pad(law, (shift, 0))
        still = np.pad(law, (0, shift))
        return product(rate * moved + (1 - rate) * still, 2), product(still, 2)

    for flip in (1, -1):
        p, q = with_and_without(rounded)[::flip]
        real_p, real_q = with_and_without(real)[::flip]
        for epsilon in (0.1, 0.5, 2.0):
            claimed_epsilon, claimed_delta = found.total(epsilon, hockey_stick(p, q, epsilon))
            assert hockey_stick(real_p, real_q, claimed_epsilon) <= claimed_delta


def test_what_a_claim_costs() -> None:
    epsilon, delta = Correction(0.1, 1e-6, 5.0).total(1.0, 1e-3)
    assert epsilon == pytest.approx(1.2)
    assert delta == pytest.approx(math.exp(0.1) * 1e-3 + (1 + math.exp(1.1)) * 1e-6)


def test_epsilon_at_a_delta_leaves_room_for_the_correction() -> None:
    def gaussian(delta: float) -> float:
        return 0.3 * math.sqrt(2 * math.log(1.25 / delta))

    found = Correction(0.01, 1e-9, 5.0)
    epsilon = found.epsilon(gaussian, 1e-5)
    assert gaussian(1e-5) + 0.02 < epsilon < gaussian(1e-5) + 0.03
    # The delta at which the Gaussian was asked, found again from its epsilon.
    asked = 1.25 * math.exp(-0.5 * ((epsilon - 0.02) / 0.3) ** 2)
    assert found.total(epsilon - 0.02, asked)[1] <= 1e-5
    # Where epsilon depends strongly on delta, the room it takes itself counts.
    found, steep = Correction(0.01, 1e-9, 5.0), lambda delta: 0.05 * math.log(1 / delta)
    epsilon = found.epsilon(steep, 1e-8)
    assert found.total(epsilon - 0.02, math.exp(-(epsilon - 0.02) / 0.05))[1] <= 1e-8 * (1 + 1e-9)
    assert found.epsilon(gaussian, 1e-9) == math.inf
    assert found.epsilon(lambda _: math.inf, 1e-5) == math.inf
    assert Correction(0.0, 1e-20, 5.0).epsilon(gaussian, 1e-5) == pytest.approx(gaussian(1e-5), rel=1e-9)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_more_values_cost_more_and_finer_noise_less(mechanism: str) -> None:
    by_values = [correction(mechanism, 1024, 1, values).eta for values in (1, 100, 10**4, 10**7, 10**9)]
    assert all(a < b for a, b in zip(by_values, by_values[1:]))
    by_std = [correction(mechanism, std, 1, 10**6).eta for std in (2, 8, 30, 34, 128, 1024, 4096)]
    assert all(a > b for a, b in zip(by_std, by_std[1:]))
    by_parties = [correction(mechanism, 100, parties, 10**6).eta for parties in (1, 2, 10)]
    assert all(a > b for a, b in zip(by_parties, by_parties[1:]))
    by_delta = [correction(mechanism, 100, 1, 10**6, log10_delta).eta for log10_delta in (-5, -15, -25)]
    assert all(a < b for a, b in zip(by_delta, by_delta[1:]))


def test_the_noise_that_is_used_costs_next_to_nothing_and_coarse_noise_is_seen() -> None:
    values = 100_000 * 100
    assert correction("discrete-gaussian", 1024, 1, values).eta < 1e-9
    assert correction("skellam", 1024, 1, values).eta < 0.01
    assert correction("discrete-gaussian", 2, 1, values).eta > 0.5
    assert correction("skellam", 2, 1, values).eta > 10


@pytest.mark.parametrize(
    # A fourth cumulant c adds c / (24 s^4) He4(n / s) to ln of the law. Skellam noise has s^2; rounding -1/120.
    ("mechanism", "cumulant"),
    [("skellam", 1024.0**2), ("discrete-gaussian", 1 / 120)],
)
def test_it_is_about_what_the_fourth_cumulant_says(mechanism: str, cumulant: float) -> None:
    values = 10**8
    spread = math.sqrt(24 * values) * cumulant / (24 * 1024.0**4)  # the standard deviation of Y, which is normal
    eta = spread
    for _ in range(50):
        order = eta / spread**2  # the best lambda
        eta = spread * math.sqrt(2 * (math.log(2e20) - 1 - math.log(order)))
    assert correction(mechanism, 1024, 1, values).eta == pytest.approx(eta, rel=0.05)


def ln_skellam(variance: int, wanted: np.ndarray) -> Dict[int, Any]:
    """ln of exp(-v) I_k(v) in 80 digits, by I_(k-1) = I_(k+1) + 2k/v I_k from where I_k no longer matters (Miller)."""
    above, here, total, found = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(0), {}
    for k in range(int(22 * math.sqrt(variance)) + 60, -1, -1):
        if k in wanted:
            found[k] = here
        total += here if k == 0 else 2 * here
        above, here = here, above + here * (2 * k) / variance
    return {k: mpmath.log(value / total) for k, value in found.items()}


@pytest.mark.parametrize("variance", [4, 26, 1022, 1024, 1 << 14, 1 << 20])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_laws_are_right_within_the_stated_error(mechanism: str, variance: int) -> None:
    s = math.sqrt(variance)
    k = np.unique(np.array([0, 1, 2, s / 3, s, 2 * s, 5 * s, 10 * s, 14 * s]).astype(int))
    ln_rounded, r, error = closeness.ln_laws(mechanism, variance, k.astype(float))
    with mpmath.workdps(80):
        v = mpmath.mpf(variance)
        g = mpmath.sqrt(v - mpmath.mpf(1) / 12)
        if mechanism == "skellam":
            real = ln_skellam(variance, k)
        else:
            theta = 1 + 2 * sum(mpmath.exp(-2 * mpmath.pi**2 * v * j * j) for j in range(1, 6))
            real = {int(n): -(int(n) ** 2) / (2 * v) - mpmath.log(theta * mpmath.sqrt(2 * mpmath.pi * v)) for n in k}
        for i, n in enumerate(k):
            upper, lower = ((int(n) + side) / (g * mpmath.sqrt(2)) for side in (-mpmath.mpf(1) / 2, mpmath.mpf(1) / 2))
            rounded = mpmath.log((mpmath.erfc(upper) - mpmath.erfc(lower)) / 2)
            assert abs(ln_rounded[i] - rounded) < 1e-11
            assert abs(r[i] - (real[int(n)] - rounded)) <= error[i], n
    # An error that hides what it is the error of would make the rest meaningless.
    assert error[k <= 5 * s].max() < 1e-3 * np.abs(r).max()


@pytest.mark.parametrize("order", [0.1, 1.0, 3.0])
@pytest.mark.parametrize(("mechanism", "std"), [("discrete-gaussian", 1), ("discrete-gaussian", 3), ("skellam", 6)])
def test_moments_are_bounded_closely(mechanism: str, std: int, order: float) -> None:
    ln_tail = -20
    comparison = closeness.compare(mechanism, std, 1, ln_tail)
    real, rounded = laws(mechanism, std, 1, comparison.gaussian_std)
    middle = np.abs(np.arange(len(real)) - len(real) // 2) <= closeness.reach_of(
        mechanism, party_variance(mechanism, std), ln_tail
    )
    for p, q, weights in ((real, rounded, comparison.real_weights), (rounded, real, comparison.rounded_weights)):
        exact = math.log(np.sum(p[middle] * (p[middle] / q[middle]) ** order))
        bound = closeness.ln_moment_of(comparison.magnitudes, weights, math.exp(ln_tail), order)
        assert exact <= bound <= 2 * exact + 2 * order * math.exp(ln_tail)


@pytest.mark.parametrize("std", [0.6, 0.8, 1.0])
@pytest.mark.parametrize("parties", [2, 3, 6])
def test_a_sum_of_discrete_gaussians_is_almost_one(std: float, parties: int) -> None:
    k = np.arange(-40, 41)
    one = np.exp(-0.5 * (k / std) ** 2)
    one /= one.sum()
    total = one
    for _ in range(parties - 1):
        total = np.convolve(total, one)
    wide = np.arange(len(total)) - len(total) // 2
    single = np.exp(-0.5 * (wide / std) ** 2 / parties)
    single /= single.sum()
    near = np.abs(wide) <= 6 * std * math.sqrt(parties)
    found = np.abs(np.log(total[near] / single[near])).max()
    bound = closeness.ln_ratio_of_sums(std, parties)
    assert found <= bound
    # What the first two leave is smoothed by those that follow, which the bound does not use.
    assert parties > 2 or found > bound / 8
    assert closeness.ln_ratio_of_sums(1024, parties) == 0


def test_what_is_cut_off_is_as_rare_as_stated() -> None:
    for mechanism, std, parties in (("discrete-gaussian", 2, 2), ("skellam", 2, 2)):
        variance = parties * party_variance(mechanism, std)
        for law in laws(mechanism, std, parties, math.sqrt(variance - 1 / 12)):
            for ln_tail in (-10, -20, -30):
                reach = closeness.reach_of(mechanism, variance, ln_tail)
                outside = np.abs(np.arange(len(law)) - len(law) // 2) > reach
                assert law[outside].sum() <= 2 * math.exp(ln_tail)
                # A step of 40 less far it would not be so rare: the bound is one of this law.
                nearer = np.abs(np.arange(len(law)) - len(law) // 2) > 0.6 * reach
                assert law[nearer].sum() > 2 * math.exp(ln_tail)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(PrivacyError, match="unknown"):
        correction("laplace", 1024, 1, 1)
    for std, parties, values, log10_delta in (
        (0, 1, 1, -15),
        (8, 0, 1, -15),
        (8, 1, 0, -15),
        (8, 1, 1, 0),
        (8, 1, 1, -50),
    ):
        with pytest.raises(PrivacyError, match="must be positive"):
            correction("skellam", std, parties, values, log10_delta)
