"""Sums of an analysis over a node's units, noised as the task says; and to what a node's part of a noisy sum is cut."""

from typing import Optional

import numpy as np

from orchestrator.analyses.agents import EXCHANGE, PeerAnalysis
from orchestrator.analyses.registry import analysis_of
from orchestrator.errors import WireError
from orchestrator.node.analysed import asked_of, unit_vectors
from orchestrator.node.guard import DisclosureGuard
from orchestrator.node.run import Run, Tensors
from orchestrator.privacy.noisy_sum import analysis_sum
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.terms import unit_of
from orchestrator.privacy.vector_layout import Layout
from orchestrator.rounds.stages import ANALYSIS


def analysed(run: Run, number: int, tensors: Tensors, layout: Optional[Layout], guard: DisclosureGuard) -> np.ndarray:
    """float64 sums, or int64 in steps with noise (node/analysed.py)."""
    task = run.task
    analysis = analysis_of(task)
    asked = asked_of(analysis, tensors.get("weights"), number)
    if isinstance(analysis, PeerAnalysis) and analysis.exchanges(analysis.question(asked)):
        if run.exchanged is None or run.exchanged[0] != number:
            raise WireError(f"round {number}: this node's exchange with its neighbours is not over")
        run.said = {EXCHANGE: run.exchanged[2]}
        return guard.leaves(run.digest, task, run.exchanged[1])
    if not task.privacy.on:
        answer, run.said = guard.exact(run.digest, task, analysis, asked, run.dataset)
        return guard.leaves(run.digest, task, answer)
    passed = guard.passed(run.digest, task, analysis, asked, run.dataset)
    vectors = unit_vectors(analysis, asked, passed.data, unit_of(task.privacy))
    limit = limit_in(layout, ANALYSIS, run.stated_units)
    if task.privacy.distributed and limit is None:
        raise WireError(f"round {number} is not a secure one: this node's share of the noise protects only a sum")
    each = (vector for some in vectors for vector in some)
    return analysis_sum(task).release(each, SecureRandom(), limit)


def limit_in(layout: Optional[Layout], name: str, units: int) -> Optional[int]:
    """To what this node's part of a noisy sum is cut before its noise; None outside secure sums, which have room for all.

    units: as stated. The limit of a sum must not depend on how many units really are in it.
    """
    part = next((p for p in layout.parts if p.name == name and p.noisy), None) if layout is not None else None
    if layout is None or part is None:
        return None
    return layout.limit(part, part.times * units)
