"""A node's score of another node's model (strategy fuala): on records it holds out, clipped, noised and charged as the task says.

What came to be scored is a gateway's word for "another node's model": it may be anything that a gateway would like to know the
records' losses of. So there is one score a round at most, charged like any release, of losses in a fixed range; without noise
only where the owner's policy lets it pass, and of as many patients as [disclosure] wants.
"""

from typing import Any, Dict

import numpy as np

from orchestrator.errors import WireError
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.run import Run, Tensors
from orchestrator.node.store import NodeStore
from orchestrator.privacy.scoring import exact_score, losses, noised_score
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.standardization import standardize
from orchestrator.privacy.terms import unit_of
from orchestrator.rounds.fuala import OWN
from orchestrator.wire.announcing import ASSIGNED, ModelAssigned
from orchestrator.wire.answering import Scored
from orchestrator.wire.weight_step import digest_of_weights


def scored(
    run: Run, store: NodeStore, number: int, announced: Dict[str, Any], tensors: Tensors, guard: DisclosureGuard
) -> Dict[str, Any]:
    """Fields of the answer: none where no model came to be scored. WireError for one that this node does not score."""
    if not run.task.scores(number) or ASSIGNED not in tensors:
        return {}
    model = _admitted(run, store, number, announced, tensors)
    task, held_out = run.task, run.held_out
    if not task.privacy.on:
        guard.scored(held_out)
    mean, std = tensors["mean"], tensors["std"]
    x = standardize(held_out.x, mean, std)
    graph = run.evaluation_graph()
    outputs = (graph.record_logits if task.privacy.within_node else graph.logits)(model, x)
    probabilities = task.schema.learned.answers(outputs.astype(np.float64), held_out.y, x)
    each = losses(task, probabilities, held_out.y)
    if task.privacy.on:
        score = noised_score(task, each, held_out.units(unit_of(task.privacy)), run.stated_units, SecureRandom())
    else:
        score = exact_score(task, each)
    return Scored(float(score), digest_of_weights(model)).written()


def _admitted(run: Run, store: NodeStore, number: int, announced: Dict[str, Any], tensors: Tensors) -> np.ndarray:
    """The model to score, before any record is looked at; WireError for one that is not another node's of this task."""
    model = np.asarray(tensors[ASSIGNED])
    named = ModelAssigned.read(announced).assigned
    if model.dtype != np.float32 or model.ndim != 1 or model.shape != tensors["weights"].shape:
        raise WireError(f"round {number} came with a model to score that is not float32 of the task's size")
    if not np.isfinite(model).all():
        raise WireError(f"round {number} came with a model to score that is not of finite numbers")
    if digest_of_weights(model) != named:
        raise WireError(f"round {number} came with another model to score than it names")
    own = store.kept(run.id, OWN)
    if own is not None and np.array_equal(model, own.vector):
        raise WireError(f"round {number} came with this node's own model to score")
    return model
