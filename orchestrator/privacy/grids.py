"""Which whole numbers really leave for each kind of release: what gateway and node correct an accountant's Gaussian by.

From the declaration alone, so that both sides come to the same. What the grids give away beyond Gaussian noise: closeness.py.
"""

from dataclasses import replace
from typing import Callable, Dict, Iterable, Tuple, Union

from orchestrator.errors import PrivacyError
from orchestrator.privacy.charges import Charge, Grid
from orchestrator.privacy.closeness import gaussian_std
from orchestrator.privacy.correlated import FRACTION_BITS
from orchestrator.privacy.discrete import MAX_SIGMA, MAX_SKELLAM_VARIANCE
from orchestrator.privacy.lattice import party_variance
from orchestrator.privacy.noisy_sum import (
    NoisyCounts,
    NoisySum,
    analysis_sum,
    count_sum,
    evaluation_counts,
    score_sum,
    statistics_sum,
    training_sum,
)
from orchestrator.privacy.releases import COUNT, SCORE, Release, noise_multipliers, releases_of
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS, TRAINING
from orchestrator.wire.task import Task

ASSUMED_PARAMETERS = 10**7
"""Of a model whose size is not known (training.parameters 0)."""


def grids_of(task: Task) -> Dict[str, Grid]:
    """kind of release -> its grid, `values` being those of one run; of kinds whose noise is declared.

    Raises PrivacyError for noise that cannot be drawn.
    """
    noised = [release for release in releases_of(task) if release.noise_multiplier > 0]
    return {release.kind: _grid(task, release) for release in noised}


def _grid(task: Task, release: Release) -> Grid:
    if release.kind == TRAINING:
        return _training_grid(task)
    sums = _SUMS[release.kind](task)
    return Grid(sums.mechanism, sums.std, sums.bound, sums.parties, sums.size * release.count)


_SUMS: Dict[str, Callable[[Task], Union[NoisySum, NoisyCounts]]] = {
    COUNT: count_sum,
    STATISTICS: statistics_sum,
    EVALUATION: evaluation_counts,
    ANALYSIS: analysis_sum,
    SCORE: score_sum,
}


def _training_grid(task: Task) -> Grid:
    privacy = task.privacy
    of_step = training_sum(task, task.training.parameters or ASSUMED_PARAMETERS)
    finer = 1 << FRACTION_BITS if privacy.bands > 1 else 1
    values = task.steps * (of_step.size + (privacy.clip_quantile > 0 or of_step.beside > 0))
    std = of_step.std * finer
    if task.training.parameters:
        _check_drawable(privacy.mechanism, std)
    return Grid(privacy.mechanism, std, of_step.bound * finer, of_step.parties, values)


def on_grids(task: Task, charges: Iterable[Charge]) -> Tuple[Charge, ...]:
    """The charges of one run of `task` as its noise is drawn: with grid, and the multiplier of the Gaussian it is closest to."""
    grids, declared = grids_of(task), noise_multipliers(task)
    found = []
    for charge in charges:
        grid = grids.get(charge.kind)
        if grid is not None:
            real = gaussian_std(grid.mechanism, grid.std, grid.parties) / (grid.bound * declared[charge.kind])
            grid = grid._replace(values=-(-grid.values // charge.count))
            charge = replace(charge, noise_multiplier=charge.noise_multiplier * min(1.0, real), grid=grid)
        found.append(charge)
    return tuple(found)


def _check_drawable(mechanism: str, std: int) -> None:
    """PrivacyError now rather than on every node in the first round."""
    if std > MAX_SIGMA or (mechanism == "skellam" and party_variance(mechanism, std) > MAX_SKELLAM_VARIANCE):
        raise PrivacyError(
            f"{mechanism} noise of std {std} grid steps cannot be drawn: the model has too many parameters, or the noise "
            "multiplier is too large for it" + ("; use mechanism 'discrete-gaussian'" if mechanism == "skellam" else "")
        )
