"""What a task claims, held against what this node counts: an owner approves a task by its epsilon, which its gateway wrote."""

import logging
from dataclasses import replace
from typing import Union

from orchestrator.errors import PrivacyError
from orchestrator.node import accountant
from orchestrator.node.policy import Refusal
from orchestrator.node.reservation import Reservation
from orchestrator.privacy.releases import work_of
from orchestrator.wire.task import Task

log = logging.getLogger("edgeward.node")

ROUNDING = 1.01
"""By how much the node's coarser accountant may come out above the gateway's."""


def check_claim(task: Task, wanted: Reservation) -> Union[Refusal, float, None]:
    """Epsilon of all runs a task is for, at its own delta; a Refusal where that is more than it claims.

    None for a task without privacy, and where dp-accounting is not installed: then nobody here knows.
    """
    privacy = task.privacy
    if not privacy.on:
        return None
    if not accountant.available():
        log.warning("dp-accounting is not installed here, so nothing checks the epsilon that tasks claim")
        return None
    charges = tuple(replace(charge, count=charge.count * privacy.runs) for charge in wanted.charges)
    try:
        counted = accountant.epsilon_apart([replace(wanted, charges=charges)], privacy.delta)
    except PrivacyError as error:
        return Refusal("policy.accountant", f"the owner approves tasks by their epsilon, and {error}")
    if counted > privacy.epsilon * ROUNDING:
        return Refusal(
            "claim",
            f"the task claims epsilon {privacy.epsilon:g} at delta {privacy.delta:g}; as this node counts, the noise it declares "
            f"(multiplier {work_of(task).noise_multiplier:g} in {task.steps} steps) spends {counted:.3g} in all runs it is for",
        )
    return counted
