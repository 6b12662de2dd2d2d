"""What one privacy unit may be part of: the releases a task declares, as charges an accountant (or a ledger) adds up.

From the declaration alone, so that gateway and node come to the same list without asking each other. Adjacency is always
adding or removing one unit. Nothing here says how much noise is needed: see accounting.py.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.privacy.gaussian_losses import composition
from orchestrator.privacy.releases import GROUPS, KINDS, Release, releases_of
from orchestrator.wire.task import Task

LEAST_EXACT = 0.1
"""Noise multiplier: an accountant needs gigabytes for less. What it spends, at least 50 in one release, is bounded instead."""


class Grid(NamedTuple):
    """Noise as it is drawn. std: of one party, bound: what one unit moves the sum by at most, both in grid steps.

    parties: that add noise. values: noised whole numbers in one release (of correlated noise: in all of a run's).
    """

    mechanism: str
    std: int
    bound: float
    parties: int
    values: int


@dataclass(frozen=True)
class Charge:
    """`count` releases of a (Poisson-subsampled) Gaussian mechanism that one unit may be part of.

    noise_multiplier: standard deviation of the noise on the released sum, in units of what one unit can change it by; 0: the
    release is not noised. sampling_rate: probability that the unit is in one release, 1 without amplification. group: a unit
    is of one group only, so charges add up inside a group and the largest group is what counts. grid: the whole numbers that
    are really drawn in place of the Gaussian; None: it is counted as continuous.
    """

    kind: str
    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1
    group: str = "trained"
    grid: Optional[Grid] = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.group not in GROUPS:
            raise ValueError(
                f"charge {self.kind!r}, {self.group!r}: expected of {', '.join(KINDS)}; {', '.join(GROUPS)}"
            )
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier: {self.noise_multiplier}, expected 0 or more")
        if not 0 < self.sampling_rate <= 1 or self.count < 0:
            raise ValueError("sampling_rate must be in (0, 1], count 0 or more")

    def to_dict(self) -> Dict[str, Any]:
        found = {**asdict(self), "grid": None if self.grid is None else self.grid._asdict()}
        return {name: value for name, value in found.items() if name != "grid" or value is not None}

    @classmethod
    def from_dict(cls, data: Dict[str, Any]) -> "Charge":
        """ValueError where a field is missing, unknown or out of range."""
        try:
            grid = data.get("grid")
            return cls(**{**data, "grid": None if grid is None else Grid(**grid)})
        except TypeError as error:
            raise ValueError(f"not a charge: {error}") from error


def charges_of(task: Task, run: int = 1) -> Tuple[Charge, ...]:
    """Everything one unit may be part of in the first `run` trainings of `task`; empty for unit "none".

    Raises PrivacyError for a declaration whose loss cannot be stated.
    """
    if not task.privacy.on:
        return ()
    if run < 1:
        raise ValueError(f"run: {run}, the first training is 1")
    return tuple(_charge(task, release, run) for release in releases_of(task))


def epsilon_of(charges: Iterable[Charge], delta: float, discretization: float = 1e-4) -> float:
    """Epsilon at `delta` of all charges together, by dp-accounting's privacy loss distributions; inf where one has no noise.

    `discretization` of the privacy loss: a coarser one only overstates epsilon, and is faster to search with. 0.0 without
    charges.
    """
    return epsilon_at(charges, discretization)(delta)


def epsilon_at(charges: Iterable[Charge], discretization: float = 1e-4) -> Callable[[float], float]:
    """The same for any delta: composed once, asked often."""
    counted = [charge for charge in charges if charge.count]
    if any(charge.noise_multiplier <= 0 for charge in counted):
        return lambda delta: math.inf
    groups = [[c for c in counted if c.group == group] for group in GROUPS]
    found = [_of_group(group, discretization) for group in groups if group]
    return lambda delta: max((epsilon(delta) for epsilon in found), default=0.0)


def merged(charges: Iterable[Charge]) -> List[Charge]:
    """The same loss in fewer charges: Gaussian mechanisms without sampling are one, of multiplier (sum of count / z^2)^(-1/2)."""
    whole = [charge for charge in charges if charge.sampling_rate == 1]
    sampled: Dict[Charge, int] = {}
    for charge in charges:
        if charge.sampling_rate < 1:
            one = replace(charge, count=1)
            sampled[one] = sampled.get(one, 0) + charge.count
    found = [replace(one, count=count) for one, count in sampled.items()]
    if whole:
        z = sum(charge.count / charge.noise_multiplier**2 for charge in whole) ** -0.5
        found.append(replace(whole[0], noise_multiplier=z, count=1))
    return found


def _charge(task: Task, release: Release, run: int) -> Charge:
    if release.kind == "training" and task.privacy.bands > 1:
        return _correlated(task, release, run)
    # With clip_quantile the multiplier is that of update and norm count together (Andrew et al. 2021, theorem 1).
    return Charge(release.kind, release.noise_multiplier, release.sampling_rate, release.count * run, release.group)


def _correlated(task: Task, release: Release, run: int) -> Charge:
    """Of rounds whose noise is correlated: one Gaussian mechanism. Only how often a node takes part raises what it can change."""
    from orchestrator.privacy.correlated import most_participations, sensitivity

    privacy, rounds = task.privacy, task.training.rounds
    if privacy.clip_quantile:
        raise PrivacyError(
            "privacy.bands together with clip_quantile is not supported: correlated noise cancels over rounds only "
            "while the clip norm stays; leave one of them out"
        )
    if privacy.mechanism == "skellam":
        raise PrivacyError(
            "privacy.bands with mechanism 'skellam' is not supported: correlated noise needs a finer grid than Skellam "
            "noise can be drawn on; use 'discrete-gaussian'"
        )
    most = sensitivity(privacy.bands, rounds, most_participations(rounds, privacy.bands), privacy.bands)
    return Charge(release.kind, release.noise_multiplier / most, count=run)


def _of_group(charges: List[Charge], discretization: float) -> Callable[[float], float]:
    if any(charge.noise_multiplier < LEAST_EXACT for charge in charges):
        return _without_samples(charges)
    few = merged(charges)
    if len(few) == 1 and few[0].sampling_rate == 1:
        return _gaussian(few[0].noise_multiplier)
    composed = composition([(c.noise_multiplier, c.sampling_rate, c.count) for c in few], discretization)
    return lambda delta: float(composed.get_epsilon_for_delta(delta))


def _without_samples(charges: List[Charge]) -> Callable[[float], float]:
    """A bound on epsilon, as if all took part in every release: zCDP of their sum (Bun and Steinke 2016, Proposition 1.3)."""
    rho = sum(charge.count / charge.noise_multiplier / charge.noise_multiplier / 2 for charge in charges)
    return lambda delta: rho + 2 * math.sqrt(rho * math.log(1 / delta))


def _gaussian(noise_multiplier: float) -> Callable[[float], float]:
    """Of one Gaussian mechanism the privacy loss is known exactly: nothing needs to be discretized."""
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    loss = GaussianPrivacyLoss(noise_multiplier)

    def epsilon(delta: float) -> float:
        low, high = 0.0, 1.0
        while loss.get_delta_for_epsilon(high) > delta:
            low, high = high, 2 * high
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if loss.get_delta_for_epsilon(middle) > delta else (low, middle)
        return high

    return epsilon
