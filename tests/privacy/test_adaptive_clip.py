"""The clip norm finds its quantile from far away; the noise of update and count together is what was declared."""

import numpy as np
import pytest

from orchestrator.errors import PrivacyError
from orchestrator.privacy.adaptive_clip import next_clip, noisy_share, split_multiplier


@pytest.mark.parametrize("start", [0.1, 10.0])
@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_it_finds_the_quantile_from_ten_times_too_large_or_small(start: float, quantile: float) -> None:
    """Log-normal norms, 100 nodes a round, with the noise of the count; the last 100 of 300 rounds are near the quantile."""
    random, clip, cohort = np.random.default_rng(3), start, 100
    wanted = float(np.quantile(random.lognormal(0.0, 0.5, 100_000), quantile))
    noise = split_multiplier(1.0, cohort).count_std
    seen = []
    for _ in range(300):
        norms = random.lognormal(0.0, 0.5, cohort)
        votes = np.where(norms <= clip, 0.5, -0.5).sum() + random.normal(0, noise)
        clip = next_clip(clip, noisy_share(votes, cohort), quantile, 0.2)
        seen.append(clip)
    assert np.exp(np.mean(np.log(seen[200:]))) == pytest.approx(wanted, rel=0.05)


def test_it_moves_the_right_way_and_not_at_all_when_it_is_there() -> None:
    assert next_clip(1.0, 1.0, 0.5, 0.2) == pytest.approx(np.exp(-0.1)), "all are within: it was too large"
    assert next_clip(1.0, 0.0, 0.5, 0.2) == pytest.approx(np.exp(0.1))
    assert next_clip(3.0, 0.5, 0.5, 0.2) == 3.0


@pytest.mark.parametrize(("z", "cohort"), [(1.0, 100), (0.5, 20), (4.0, 1000)])
def test_update_and_count_are_one_mechanism_of_the_declared_noise(z: float, cohort: int) -> None:
    """One node moves the update's sum by 1 and that of +-1/2 by 1/2; scaled by their noise, together by 1/z."""
    update, count_std = split_multiplier(z, cohort)
    assert count_std == cohort / 20
    assert (1 / update) ** 2 + (0.5 / count_std) ** 2 == pytest.approx(1 / z**2)
    assert update > z


def test_too_small_a_cohort_is_refused_with_the_number_it_takes() -> None:
    with pytest.raises(PrivacyError, match="about 10 nodes a round .* more than 20 nodes a round"):
        split_multiplier(2.0, 10)
    with pytest.raises(PrivacyError, match="must be positive"):
        split_multiplier(0.0, 10)
