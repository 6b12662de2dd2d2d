"""Whether the privacy a task promises can be had at all: the accountant is asked, as the gateway asks it."""

from dataclasses import replace
from typing import List

from orchestrator.doctor.finding import NOT_CHECKED, OK, PROBLEM, Finding
from orchestrator.errors import EdgewardError
from orchestrator.wire.task import Task


def check_privacy(task: Task) -> List[Finding]:
    """Nothing of a task without privacy. Takes as long as the accountant does: seconds."""
    from orchestrator.gateway.config import weights_of
    from orchestrator.privacy.accounting_process import plan_apart
    from orchestrator.privacy.releases import work_of

    if not task.privacy.on:
        return []
    parameters = weights_of(task)
    if not parameters:
        return [
            Finding(NOT_CHECKED, "privacy", "how many weights the model has is known when the gateway has built it")
        ]
    try:
        planned, spent = plan_apart(replace(task, training=replace(task.training, parameters=parameters)))
    except EdgewardError as error:
        fix = "edgeward privacy plan EDGEWARD.TOML --rows R says what is possible"
        return [Finding(PROBLEM, "privacy", f"task.privacy: {error}", fix)]
    noise = f"noise multiplier {work_of(planned).noise_multiplier:.4g}"
    return [Finding(OK, "privacy", f"{noise} keeps epsilon {spent:.3g} at delta {task.privacy.delta:g}")]
