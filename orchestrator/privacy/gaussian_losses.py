"""The privacy losses of a Poisson-sampled Gaussian mechanism: dp-accounting's, with all points of its grid computed at once.

dp-accounting asks for each point of the grid by itself, in Python, which takes more than all else that an accountant does. Its
distributions, their composition, truncation and rounding are used as they are.
"""

import math
from functools import lru_cache
from typing import Any, Iterable, Tuple

import numpy as np


def composition(mechanisms: Iterable[Tuple[float, float, int]], discretization: float) -> Any:
    """dp-accounting's PrivacyLossDistribution of all (noise multiplier, sampling rate, count), as its PLDAccountant composes."""
    from dp_accounting.pld import privacy_loss_distribution

    composed = privacy_loss_distribution.identity(discretization)
    for noise_multiplier, sampling_rate, count in mechanisms:
        composed = composed.compose(repeated(noise_multiplier, sampling_rate, count, discretization))
    return composed


def repeated(noise_multiplier: float, sampling_rate: float, count: int, discretization: float) -> Any:
    """The same of `count` releases. Without sampling so many Gaussian mechanisms are one."""
    if sampling_rate == 1:
        return losses_of(noise_multiplier / math.sqrt(count), 1.0, discretization)
    return losses_of(noise_multiplier, sampling_rate, discretization).self_compose(count)


@lru_cache(maxsize=8)  # some MiB each
def losses_of(noise_multiplier: float, sampling_rate: float, discretization: float) -> Any:
    """dp-accounting's PrivacyLossDistribution of one release, for adding or removing a unit whose sensitivity is 1.

    As `from_gaussian_mechanism` makes it: rounded upwards by connecting the dots (Doroshenko et al. 2022), so that epsilon is
    overstated. Of equal adjacencies (sampling_rate 1) there is one.
    """
    from dp_accounting.pld import privacy_loss_distribution, privacy_loss_mechanism

    kinds = privacy_loss_mechanism.AdjacencyType
    adjacencies = [kinds.REMOVE] if sampling_rate == 1 else [kinds.REMOVE, kinds.ADD]
    return privacy_loss_distribution.PrivacyLossDistribution(
        *(_rounded(noise_multiplier, sampling_rate, discretization, each) for each in adjacencies)
    )


def _rounded(noise_multiplier: float, sampling_rate: float, discretization: float, adjacency: Any) -> Any:
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss

    mechanism = GaussianPrivacyLoss(noise_multiplier, sampling_prob=sampling_rate, adjacency_type=adjacency)
    ends = mechanism.connect_dots_bounds()
    low, high = math.floor(ends.epsilon_lower / discretization), math.ceil(ends.epsilon_upper / discretization)
    epsilons = np.arange(low, high + 1) * discretization
    places = _places(epsilons, noise_multiplier, sampling_rate, adjacency == AdjacencyType.ADD)
    deltas = mechanism.mu_upper_cdf(places) - np.exp(epsilons + mechanism.mu_lower_log_cdf(places))
    deltas = np.where(np.isposinf(places), -np.expm1(epsilons), deltas)
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(discretization, low, high, np.clip(deltas, 0, 1))


def _places(epsilons: np.ndarray, noise_multiplier: float, sampling_rate: float, adding: bool) -> np.ndarray:
    """float64 (n,): the largest output at which the loss is at least epsilon; infinite where it is everywhere, or nowhere.

    With noise z and sampling rate q the loss is log(1 - q + q exp(l)) of l = -(x + 1/2) / z^2, the loss without sampling, where a
    unit is removed; where it is added, it is the negative of that at -x. Solved for l in dp-accounting's order, to its bits.
    """
    losses = epsilons
    if sampling_rate < 1:
        scale, shift = 1 / sampling_rate, 1 - 1 / sampling_rate
        sign = -1.0 if adding else 1.0
        scaled, least = sign * epsilons + np.log(scale), np.log(-shift)
        with np.errstate(invalid="ignore", divide="ignore"):
            inner = np.where(scaled > least, scaled + np.log1p(-np.exp(least - scaled)), -np.inf)
            losses = sign * np.where(epsilons == 0, np.log(scale + shift), inner)
    places = -0.5 - losses * noise_multiplier**2
    return 1 + places if adding else places
