"""Whether a task's declaration carries the privacy it claims. Nodes ask before they take part, gateways before they begin."""

from typing import Optional

from orchestrator.wire.protection import HIDING_NOISE, OFTEN, UNLIKELY
from orchestrator.wire.task import Task


def objection_to(task: Task) -> Optional[str]:
    """Why no node should take part: a privacy claim that the declaration does not carry."""
    privacy = task.privacy
    if task.training.personal != "none" and not task.training.personal_parameters:
        return "the task wants a personal part and does not say which of the weights it is"
    if not privacy.on:
        return None
    if privacy.noise_multiplier <= 0 or (task.standardizes and privacy.statistics_noise_multiplier <= 0):
        return f"the task claims epsilon {privacy.epsilon:g} and declares no noise"
    if task.evaluation.on and privacy.evaluation_noise_multiplier <= 0:
        return f"the task claims epsilon {privacy.epsilon:g} and declares no noise on federated evaluation"
    if task.scorings and privacy.score_noise_multiplier <= 0:
        return f"the task claims epsilon {privacy.epsilon:g} and declares no noise on scores of other nodes' models"
    if not privacy.clip_norm:
        return f"the task claims epsilon {privacy.epsilon:g} and declares no clip norm"
    return None


def oversized(task: Task, units: int) -> Optional[str]:
    """Why a node that trains on `units` privacy units should not take part: its delta would let a whole one leak."""
    return too_likely(task, task.privacy.delta, units) if task.privacy.within_node else None


def too_likely(task: Task, delta: float, units: int) -> Optional[str]:
    """Why `delta` is too large for so many units, given the noise of steps that are sampled."""
    share = task.evaluation.share
    units = round(units * max(1.0, share / (1 - share)))  # those held out may be more
    if delta * units >= 1:
        # A mechanism that publishes one random unit in full satisfies (0, 1/units)-DP.
        return f"delta {delta:g} is not below 1/units = 1/{units}: it would allow a whole {task.privacy.unit} to leak"
    # Of steps alone: all other releases have every unit in them, so that epsilon counts them whole.
    noise = task.privacy.noise_multiplier or HIDING_NOISE
    rarely = task.privacy.sampling_rate < OFTEN * delta
    if noise < HIDING_NOISE and rarely and delta * units > UNLIKELY:
        # With little noise and a low sampling rate, delta is the chance of each unit to be drawn, and shown.
        return (
            f"delta {delta:g} is above {UNLIKELY:g}/units = {UNLIKELY / units:.2g}: with noise of multiplier {noise:g} (below "
            f"{HIDING_NOISE:g}) it is the chance of each {task.privacy.unit} to be shown. Lower delta, or ask for more noise"
        )
    return None
