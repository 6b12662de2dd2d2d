"""A coordinator of secure rounds, and how tests take it from step to step."""

from typing import List, Sequence

from orchestrator.rounds.events import (
    Action,
    Arrived,
    Joined,
    Started,
)
from orchestrator.rounds.plan import Plan
from orchestrator.rounds.secure import SecureCoordinator
from orchestrator.rounds.state import COLLECTING
from orchestrator.rounds.steps import MASKED_STEPS

PLAN = Plan(
    rounds=3,
    nodes=5,
    quorum=3,
    deadline_s=10,
    attempts=3,
    gather_s=100,
    statistics=False,
    steps=MASKED_STEPS,
    least=3,
)
NAMES = ("n0", "n1", "n2", "n3", "n4")


def gathered(plan: Plan = PLAN, nodes: Sequence[str] = NAMES) -> SecureCoordinator:
    coordinator = SecureCoordinator(plan)
    coordinator.handle(Started(0.0))
    for name in nodes:
        coordinator.handle(Joined(1.0, name, 10))
    assert coordinator.phase == COLLECTING
    return coordinator


def answer(coordinator: SecureCoordinator, nodes: Sequence[str], at: float = 2.0, step: str = "") -> List[Action]:
    """What the coordinator does when the last of them has answered the open step."""
    actions: List[Action] = []
    step, attempt = step or coordinator.step, coordinator.attempt
    for node in nodes:
        actions = coordinator.handle(Arrived(at, node, coordinator.round, f"{step}-{node}", 1.0, step, attempt))
    return actions


def until(coordinator: SecureCoordinator, step: str) -> None:
    """Everybody asked answers, until `step` is open."""
    for _ in MASKED_STEPS:
        if coordinator.step == step:
            return
        answer(coordinator, coordinator.cohort)
    assert coordinator.step == step
