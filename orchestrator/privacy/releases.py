"""What leaves a node in a run, declared once. Charges, ledger entries, approval texts and statements are loops over it.

A release is a sum of vectors, one for each privacy unit, under noise of its own. From the declaration alone, so that gateway and
node come to the same list without asking each other.
"""

from dataclasses import dataclass
from typing import Dict, Tuple

from orchestrator.privacy.participation import secret_sample
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS, TRAINING
from orchestrator.wire.task import Task

COUNT = "count"
SCORE = "score"
"""Of another node's model, on held-out records (privacy/scoring.py)."""

KINDS = (TRAINING, STATISTICS, EVALUATION, COUNT, ANALYSIS, SCORE)
"""Of the stage they are of, where they are of one."""

GROUPS = ("trained", "held-out")


@dataclass(frozen=True)
class Release:
    """All releases of one kind that a run of a task has."""

    kind: str  # one of KINDS
    # standard deviation of the noise on the sum, in units of what one unit can change it by; 0: without, or not planned yet
    noise_multiplier: float
    count: int = 1  # how many of a run one unit may be part of
    each: int = 1  # how many of them are in one answer
    sampling_rate: float = 1.0  # probability that a unit is in one; 1 without amplification
    group: str = "trained"  # a unit is of one of GROUPS: on one side of the split into trained and held out
    alone: bool = False  # whether its noise is a node's own also where nodes share that of the others


def releases_of(task: Task) -> Tuple[Release, ...]:
    """Everything that leaves a node in one run of `task`. Unit "none": the same sums, whose noise multipliers are 0.

    Records and patients: every gradient step, Poisson-sampled inside the nodes, the same whether a node adds all of the noise
    or a share of it ("distributed": the multiplier is then of the sum's noise with exactly aggregation.honest survivors); and
    once a run, the number of units the node states, with all of its noise from that node. Nodes: one update a round. They are
    amplified only where the gateway samples them with its secret key and adds the noise itself: a node's own answer shows that it
    was asked. An analysis: one sum a round, over every unit there is.
    """
    privacy, rounds = task.privacy, task.training.rounds
    if privacy.within_node:
        steps, rate = task.training.local_steps, privacy.sampling_rate
    else:
        steps, rate = 1, task.selection.sampling_rate if secret_sample(task) else 1.0
    found = [Release(task.stages.work, _noise(task, privacy.noise_multiplier), rounds * steps, steps, rate)]
    if privacy.within_node:
        found.append(Release(COUNT, privacy.count_noise, alone=True))
    if task.standardizes:
        found.append(Release(STATISTICS, _noise(task, privacy.statistics_noise_multiplier)))
    if task.evaluations:
        # Held-out records and patients are never trained on. A whole node is on both sides of the split.
        group = "trained" if privacy.of_nodes else "held-out"
        noise = _noise(task, privacy.evaluation_noise_multiplier)
        found.append(Release(EVALUATION, noise, task.evaluations, group=group))
    if task.scorings:
        noise = _noise(task, privacy.score_noise_multiplier)
        found.append(Release(SCORE, noise, task.scorings, group="held-out"))
    return tuple(found)


def work_of(task: Task) -> Release:
    """The release that the rounds are about: of training a step's sum or a node's update, of an analysis a round's sum."""
    return releases_of(task)[0]


def kinds_in(task: Task, number: int) -> Tuple[str, ...]:
    """What an answer to a round is made of: the release of its stage, the evaluation of the weights that came with it, and the
    score of another node's model.
    """
    kinds = (
        task.stages.of(number),
        EVALUATION if task.evaluates(number) else "",
        SCORE if task.scores(number) else "",
    )
    return tuple(dict.fromkeys(filter(None, kinds)))


def noise_multipliers(task: Task) -> Dict[str, float]:
    """Kind -> noise multiplier, of all that a run of `task` releases; 0 where none is planned yet. Empty for unit "none"."""
    found = {release.kind: release.noise_multiplier for release in releases_of(task)} if task.privacy.on else {}
    return {kind: found[kind] for kind in KINDS if kind in found}


def _noise(task: Task, declared: float) -> float:
    return declared if task.privacy.on else 0.0
