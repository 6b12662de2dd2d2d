"""The learning rate of each round: one function that nodes train with and the gateway reports."""

import math

SCHEDULES = ("constant", "step", "cosine", "inverse-sqrt")

SMALLEST_SHARE = 1e-9
"""Of the rate: a schedule never comes down to a rate of 0, by which some strategies divide."""


def learning_rate_at(
    round_number: int,
    rounds: int,
    learning_rate: float,
    schedule: str = "constant",
    warmup_rounds: int = 0,
    decay: float = 0.5,
    decay_every: int = 10,
    final_share: float = 0.0,
) -> float:
    """The rate of training round `round_number` (from 1) of `rounds`; always above 0.

    Warm-up rounds rise linearly to `learning_rate` (Goyal et al. 2017, section 2.2). From there on, t rounds after warm-up:
    `constant`; `step`, times `decay` every `decay_every` rounds; `cosine`, half a period down towards `final_share` of the
    rate (Loshchilov and Hutter 2017, eq. 5, one period); `inverse-sqrt`, rate / sqrt(1 + t / decay_every).
    """
    if round_number <= warmup_rounds:
        return learning_rate * round_number / (warmup_rounds + 1)
    t = round_number - warmup_rounds - 1
    if schedule == "step":
        return learning_rate * max(float(decay ** (t // decay_every)), SMALLEST_SHARE)
    if schedule == "cosine":
        falling = (1.0 + math.cos(math.pi * t / max(1, rounds - warmup_rounds))) / 2.0
        return learning_rate * max(final_share + (1.0 - final_share) * falling, SMALLEST_SHARE)
    if schedule == "inverse-sqrt":
        return learning_rate / math.sqrt(1.0 + t / decay_every)
    return learning_rate
