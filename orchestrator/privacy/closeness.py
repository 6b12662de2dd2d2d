"""Why noise of whole numbers may be accounted for as a continuous Gaussian, and what that costs. Gateway only.

The accountant knows subsampled and composed Gaussian mechanisms. Three steps lead from there to the noise really drawn.

1. Rounded Gaussian. Let R be N(0, g^2) rounded to the nearest whole number. For a whole number x, x + R is x + N(0, g^2)
   rounded: post-processing. So if all noise were R, whatever the accountant proves for std g would hold.
2. From R to the real noise D. Everything nodes ever send is a function of their records, of other random choices (samples,
   rounding) and of the m noise values of all releases. D^m in place of R^m is therefore all that changes, adaptive and
   subsampled or not. Let r = ln D(n) / R(n), and Y the sum of r over noise n of D^m. For every event A

       D^m(A) <= e^eta R^m(A) + E[(1 - e^(eta - Y))_+].

   For any lambda > 0, (1 - e^-z)_+ <= min(1, 1 / (e lambda)) e^(lambda z). So that expectation, over noise with all |n_i| <= a,
   is at most min(1, 1 / (e lambda)) e^(-lambda eta) M^m with M = E_D[exp(lambda r); |n| <= a]; choose eta such that this is
   delta' / 2, and a such that m P(|n| > a) <= delta' / 2. Then D^m(A) <= e^eta R^m(A) + delta'. The same with D and R
   exchanged gives R^m(A) <= e^eta D^m(A) + delta'.
3. Both ways. If the R world is (epsilon, delta)-private, then for neighbours x and y
       P_D(x in A) <= e^eta P_R(x in A) + delta'
                   <= e^eta (e^epsilon P_R(y in A) + delta) + delta'
                   <= e^(epsilon + 2 eta) P_D(y in A) + e^eta delta + (1 + e^(epsilon + eta)) delta'.

How M is found. M - 1 is second order in r, far below what adding floats near 1 can show. Since R is a law, the first-order
terms cancel: with h(x) = e^x - 1 - x >= 0,

    M <= 1 + E_D[h(lambda r) + lambda h(-r); |n| <= a] + lambda R(|n| > a).

|r| enters with a bound on its float error added, rounded up to a grid of magnitudes 1 % apart, so that lambda is searched on
a histogram. h(|x|) >= h(-|x|) makes one formula serve both directions, with D's or R's weights.

The rounding of R adds 1/12 to its variance (Sheppard), so g^2 = variance of D - 1/12 is what D is closest to. What is left
is the fourth cumulant: r is about He4(n / s) / 24 s^2 for Skellam noise of std s, and / 2880 s^4 for Gaussian noise.

Sum of discrete Gaussians. The sum of discrete Gaussians of variances b and c has at k the probability of one of variance b + c
times a constant times sum over j of exp(-(j - t)^2 / 2u), u = bc / (b + c), which by Poisson's summation formula is sqrt(2 pi u)
within a factor 1 +- e, e = 2 sum over i >= 1 of exp(-2 pi^2 u i^2). Both are laws, so their ratio is between (1 - e) / (1 + e)
and its inverse; adding party after party multiplies such factors. (Kairouz, Liu and Steinke 2021 give 10 exp(-2 pi^2 u) for
each; ours is about 4.) For std 1,024 they are 1 to more digits than floats have.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, NamedTuple, Tuple

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.lattice import MECHANISMS, party_variance

_ORDERS = np.logspace(-2, 20, 441)
"""Where lambda is looked for."""
_RATIO, _SMALLEST = 1.01, 1e-60
"""The histogram of |r|: magnitudes so far apart, from so little."""
_DEBYE_VARIANCE = 1024
_CHUNK = 1 << 16


_ASSUMED = 30.0
"""Epsilon that is assumed where the one assumed makes no difference."""


@dataclass(frozen=True)
class Correction:
    """The noise really drawn is (eta, delta)-indistinguishable from a rounded Gaussian of std `gaussian_std`, in steps."""

    eta: float
    delta: float
    gaussian_std: float

    def total(self, epsilon: float, delta: float) -> Tuple[float, float]:
        """(epsilon, delta) of the real mechanism where that with continuous Gaussian noise has those given (step 3)."""
        return epsilon + 2 * self.eta, math.exp(self.eta) * delta + (1 + math.exp(epsilon + self.eta)) * self.delta

    def epsilon(self, gaussian_epsilon: Callable[[float], float], delta: float) -> float:
        """Epsilon of the real mechanism at `delta`, from the function that gives the Gaussian mechanism's at any delta.

        Inf where the Gaussian's is, and where `delta` is too small for the correction's own.
        """
        # What is taken off is far below the last digit of `delta`, whatever epsilon is assumed: none has to be found first.
        alike = (1 + math.exp(_ASSUMED + self.eta)) * self.delta < delta * 2.0**-60
        assumed = _ASSUMED if alike else gaussian_epsilon(delta) + 0.01
        while assumed < 100:
            left = (delta - (1 + math.exp(assumed + self.eta)) * self.delta) * math.exp(-self.eta)
            if left <= 0:
                return math.inf
            found = gaussian_epsilon(left)
            if found <= assumed:
                return found + 2 * self.eta
            assumed = found + 0.01
        return math.inf


def correction(mechanism: str, std: int, parties: int, values: int, log10_delta: float = -20.0) -> Correction:
    """What it costs to account for the noise of `parties` parties, each of `std` steps, as for a continuous Gaussian.

    `values` is the number of noised whole numbers in all releases together. 10^log10_delta is the correction's own delta. Raises
    PrivacyError for an unknown mechanism and for noise nobody can draw.
    """
    if mechanism not in MECHANISMS:
        raise PrivacyError(f"noise mechanism {mechanism!r} is unknown; there are {', '.join(MECHANISMS)}")
    if std < 1 or parties < 1 or values < 1 or not -40 <= log10_delta < 0:
        raise PrivacyError(
            f"no correction for std {std}, {parties} parties, {values} values and delta 1e{log10_delta:g}: the first three "
            "must be positive, and delta from 1e-40 to 1"
        )
    delta = 10.0**log10_delta
    # Far less than delta / 4 is cut off at each side, since it adds to eta too. In steps of ten, for the cache.
    ln_tail = -10 * math.ceil(math.log(4 * values / delta) / 10 + 2)
    comparison = compare(mechanism, std, parties, ln_tail)
    eta = max(
        _least_eta(comparison.magnitudes, weights, math.exp(ln_tail), values, math.log(2 / delta))
        for weights in (comparison.real_weights, comparison.rounded_weights)
    )
    return Correction(eta, delta, comparison.gaussian_std)


def gaussian_std(mechanism: str, std: int, parties: int) -> float:
    """Of the rounded Gaussian that the sum of `parties` parties' noise is closest to, in steps (step 2)."""
    return math.sqrt(parties * party_variance(mechanism, std) - 1 / 12)


class _Comparison(NamedTuple):
    """Histogram of |r|: bounds (b,), and the probability of each under D and under R."""

    magnitudes: np.ndarray
    real_weights: np.ndarray
    rounded_weights: np.ndarray
    gaussian_std: float


def _least_eta(magnitudes: np.ndarray, weights: np.ndarray, tail: float, values: int, ln_inverse_delta: float) -> float:
    """The least eta over a grid of lambda; any lambda gives a valid one."""
    best = math.inf
    for order in _ORDERS:
        gained = max(0.0, 1 + math.log(order))
        ln_moment = ln_moment_of(magnitudes, weights, tail, order)
        best = min(best, (values * ln_moment + ln_inverse_delta - gained) / float(order))
    return max(0.0, best)


def ln_moment_of(magnitudes: np.ndarray, weights: np.ndarray, tail: float, order: float) -> float:
    """An upper bound of ln M for lambda = `order`; inf where it overflows."""
    with np.errstate(over="ignore"):
        second = np.dot(weights, _h(order * magnitudes) + order * _h(magnitudes))
    # One part in a million covers the rounding of this sum.
    return math.log1p(1.000001 * float(second) + order * 2 * tail)


def _h(x: np.ndarray) -> np.ndarray:
    """exp(x) - 1 - x for x >= 0, without cancellation."""
    series = 0.5 * x * x * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8))))))
    return np.where(x < 0.05, series, np.expm1(x) - x)


@lru_cache(maxsize=64)
def compare(mechanism: str, std: int, parties: int, ln_tail: int) -> _Comparison:
    variance = parties * party_variance(mechanism, std)
    gaussian_variance = gaussian_std(mechanism, std, parties) ** 2
    # That what follows holds for the sum of the parties' noise is exact for Skellam noise, and within this for Gaussian noise.
    sum_error = 0.0 if mechanism == "skellam" else ln_ratio_of_sums(std, parties)
    first = math.floor(math.log(_SMALLEST) / math.log(_RATIO))
    size = math.ceil(math.log(1e6) / math.log(_RATIO)) - first
    real, rounded = np.zeros(size), np.zeros(size)
    reach = reach_of(mechanism, variance, ln_tail)
    for start in range(0, reach + 1, _CHUNK):
        k = np.arange(start, min(start + _CHUNK, reach + 1), dtype=np.float64)
        ln_rounded, r, error = ln_laws(mechanism, variance, k)
        largest = np.abs(r) + error + sum_error
        index = np.ceil(np.log(np.maximum(largest, _SMALLEST)) / math.log(_RATIO)).astype(np.int64) + 1 - first
        twice = np.where(k == 0, 1.0, 2.0)
        rounded += np.bincount(index, twice * np.exp(ln_rounded), size)
        real += np.bincount(index, twice * np.exp(ln_rounded + r + error + sum_error), size)
    used = np.flatnonzero(real + rounded)
    return _Comparison(_RATIO ** (used + float(first)), real[used], rounded[used], math.sqrt(gaussian_variance))


def reach_of(mechanism: str, variance: int, ln_tail: int) -> int:
    """The least a for which P(|n| > a) <= 2 exp(ln_tail) under D and under R, by their Chernoff bounds."""

    def enough(a: int) -> bool:
        y = a / variance
        # The discrete Gaussian is sub-Gaussian (Canonne, Kamath, Steinke 2020), and so are sums of it.
        real = -a * a / (2 * variance)
        if mechanism == "skellam":
            real = variance * (math.sqrt(1 + y * y) - 1) - a * math.asinh(y)
        return max(real, -((a - 0.5) ** 2) / (2 * (variance - 1 / 12))) <= ln_tail

    high = 1
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def ln_ratio_of_sums(std: float, parties: int) -> float:
    """Largest |ln| of the ratio of a sum of discrete Gaussians to one of the same variance (see above)."""
    total = 0.0
    for k in range(1, parties):
        decay = math.exp(-2 * math.pi**2 * std * std * k / (k + 1))
        ripple = 2 * decay / (1 - decay)
        total += math.log1p(2 * ripple / (1 - ripple))
    return total


def ln_laws(mechanism: str, variance: int, k: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64 (n,) each: ln R(k), r = ln D(k) / R(k), and a bound on the error of r, for k >= 0.

    Both laws are written as a Gaussian density of variance v or g^2 times a correction near 1, so that only small terms are
    left to subtract.
    """
    gaussian_variance = variance - 1 / 12
    # R(k) = density(k) times the integral over t in [-1/2, 1/2] of cosh(kt / g^2) exp(-t^2 / 2 g^2), less 1 here.
    nodes, node_weights = np.polynomial.legendre.leggauss(6 if variance > 4096 else 24)
    excess = np.zeros_like(k)
    for t, weight in zip(0.25 * (nodes + 1), 0.5 * node_weights):
        shrink = -t * t / (2 * gaussian_variance)
        excess += weight * (2 * np.sinh(k * t / (2 * gaussian_variance)) ** 2 * math.exp(shrink) + math.expm1(shrink))
    ln_integral = np.log1p(excess)
    ln_rounded = -k * k / (2 * gaussian_variance) - 0.5 * math.log(2 * math.pi * gaussian_variance) + ln_integral
    # What the densities differ by: exp(k^2 / 2 g^2 - k^2 / 2v), and the square root of g^2 / v.
    widths = k * k / (24 * variance * gaussian_variance) + 0.5 * math.log1p(-1 / (12 * variance))
    if mechanism == "discrete-gaussian":
        # Its normalization is sqrt(2 pi v) times this (Poisson summation).
        theta = math.log1p(2 * sum(math.exp(-2 * math.pi**2 * variance * i * i) for i in (1, 2, 3)))
        terms = [widths, -ln_integral, np.full_like(k, -theta)]
        error = np.zeros_like(k)
    else:
        ln_bessel, error = _ln_bessel(variance, k) if variance >= _DEBYE_VARIANCE else _ln_bessel_slow(variance, k)
        terms = [widths, -ln_integral, ln_bessel]
    # 30 roundings of each term are more than any of them took.
    error = error + 2.0**-48 * (sum(np.abs(term) for term in terms) + k * k / (24.0 * variance * variance))
    return ln_rounded, sum(terms), error


def _ln_bessel(variance: int, k: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """ln of exp(-v) I_k(v) sqrt(2 pi v) exp(k^2 / 2v), and its error: Debye's expansion, DLMF 10.41.3 and 10.41.10.

    With w = sqrt(k^2 + v^2) and p = k / w its terms U_j(p) / k^j are polynomials in p^2 over w^j. The error is that of leaving
    out the fifth and later ones, twice what the fifth is at most; tests compare with arbitrary precision.
    """
    y = k / variance
    w = variance * np.sqrt(1 + y * y)
    q = (k / w) ** 2
    # v (sqrt(1 + y^2) - 1 - y asinh(y) + y^2 / 2), whose series starts with v y^4 / 24.
    exponent, power, coefficient = np.zeros_like(k), variance * y * y, 1.0
    for n in range(1, 40):
        power = -power * y * y
        coefficient *= (2 * n - 1) / (2 * n)
        exponent -= power * coefficient / ((2 * n + 1) * (2 * n + 2))
    debye = (
        (3 - 5 * q) / (24 * w)
        + (81 + q * (-462 + 385 * q)) / (1152 * w**2)
        + (30375 + q * (-369603 + q * (765765 - 425425 * q))) / (414720 * w**3)
        + (4465125 + q * (-94121676 + q * (349922430 + q * (-446185740 + 185910725 * q)))) / (39813120 * w**4)
    )
    return exponent - 0.25 * np.log1p(y * y) + np.log1p(debye), 0.5 / w**5


def _ln_bessel_slow(variance: int, k: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The same in arbitrary precision, for noise so coarse that nobody should use it."""
    import mpmath

    with mpmath.workdps(40):
        v = mpmath.mpf(variance)
        logs = [mpmath.log(mpmath.besseli(int(n), v)) - v + int(n) ** 2 / (2 * v) for n in k]
        shift = mpmath.log(2 * mpmath.pi * v) / 2
        return np.array([float(log + shift) for log in logs]), np.zeros_like(k)
