"""A clip norm that follows a quantile of the updates' norms, for unit "node" (Andrew, Thakkar, McMahan, Ramaswamy 2021).

Each node says, beside its clipped update, whether its update's norm was within the clip norm: +1/2 if so, else -1/2. Only the
noised sum of these is seen. One node moves that sum by at most 1/2, so noise of standard deviation sigma_b is a Gaussian
mechanism of multiplier 2 sigma_b, released together with the update.
"""

import math
from typing import NamedTuple

from orchestrator.errors import PrivacyError

COUNT_NOISE_SHARE = 1 / 20
"""Standard deviation of the noise on the count, as a share of the expected cohort: section 3.1's recommendation."""


class SplitNoise(NamedTuple):
    """update: noise multiplier of the sum of updates, in clip norms. count_std: of the noise on the sum of +-1/2."""

    update: float
    count_std: float


def split_multiplier(noise_multiplier: float, expected_cohort: float) -> SplitNoise:
    """Noise such that update and count together are one Gaussian mechanism of `noise_multiplier` (theorem 1).

    z_update = (z^-2 - (2 sigma_b)^-2)^(-1/2) with sigma_b = expected_cohort / 20. Raises PrivacyError when the count alone
    would spend it all: with a cohort of at most 10 z.
    """
    if not (noise_multiplier > 0 and expected_cohort > 0):
        raise PrivacyError(f"noise {noise_multiplier} over {expected_cohort} nodes: both must be positive")
    count_std = expected_cohort * COUNT_NOISE_SHARE
    left = noise_multiplier**-2 - (2 * count_std) ** -2
    if left <= 0:
        raise PrivacyError(
            f"clip_quantile with about {expected_cohort:g} nodes a round and a noise multiplier of {noise_multiplier:.3g}: "
            f"counting who was clipped would spend the whole budget. It takes more than {10 * noise_multiplier:.0f} nodes a "
            "round; set clip_quantile to 0 and choose clip_norm yourself"
        )
    return SplitNoise(1 / math.sqrt(left), count_std)


def noisy_share(noised_sum: float, expected_cohort: float) -> float:
    """Share of updates within the clip norm, from the noised sum of +-1/2; noise may put it outside [0, 1]."""
    return noised_sum / expected_cohort + 0.5


def next_clip(clip_norm: float, share: float, quantile: float, learning_rate: float) -> float:
    """Clip norm of the next round: C exp(-learning_rate (share - quantile)) (algorithm 1); post-processing, so it is free."""
    return clip_norm * math.exp(-learning_rate * (share - quantile))
