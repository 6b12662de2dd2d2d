"""`[allow] models_to_nodes`: whether models of this node alone may go to other nodes, which score them (strategy fuala)."""

from orchestrator.privacy.releases import noise_multipliers
from orchestrator.wire.protection import LEAST_NOISE
from orchestrator.wire.task import Task

MODELS_TO_NODES = NO_MODELS, NOISED_MODELS, ANY_MODELS = "none", "noised", "any"


def objection_to_models(task: Task, allowed: str) -> str:
    """Why they may not; "" where they may, and where none go. With noise: they have all of it from their own node."""
    if not task.training.cross_scored:
        return ""
    noised = task.privacy.local and min(noise_multipliers(task).values()) >= LEAST_NOISE
    if allowed in ((NOISED_MODELS, ANY_MODELS) if noised else (ANY_MODELS,)):
        return ""
    what = "with noise" if noised else "without noise"
    return f"other nodes would see this node's models, {what}; [allow] models_to_nodes is {allowed!r}"
