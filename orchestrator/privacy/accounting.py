"""From noise to epsilon and back, with Google's dp-accounting (privacy loss distributions). Gateway only.

Unit: one record. Adjacency: add or remove one record of one node. A record lies with one node only, so the nodes'
mechanisms compose in parallel and epsilon is that of a single node's. One node releases, in the worst case, the
standardization sums once (Gaussian mechanism) and every gradient step (Poisson-subsampled Gaussian mechanism).
"""

import math
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Dict, List, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.wire.task import Privacy, Task

STATISTICS_SHARE = 2.5
"""Noise of the standardization release relative to the training noise multiplier when the gateway plans both."""

_MAX_NOISE = 200.0
_FINE, _COARSE = 1e-4, 1e-3
"""Discretization of the privacy loss; a coarser one only overstates epsilon, and is faster to search with."""


def epsilon_spent(
    privacy: Privacy, steps: int, statistics: bool, runs: int = 1, discretization: float = _FINE
) -> float:
    """Epsilon at `privacy.delta` after `runs` trainings on the same records; inf without noise.

    A training is `steps` noised steps and, if `statistics`, one release of standardization sums.
    """
    from dp_accounting import dp_event, pld

    noises = [privacy.noise_multiplier] * (steps > 0) + [privacy.statistics_noise_multiplier] * statistics
    if any(noise <= 0 for noise in noises):
        return math.inf
    accountant = pld.PLDAccountant(value_discretization_interval=discretization)
    if statistics:
        accountant.compose(dp_event.GaussianDpEvent(privacy.statistics_noise_multiplier), runs)
    if steps > 0:
        step = dp_event.PoissonSampledDpEvent(privacy.sampling_rate, dp_event.GaussianDpEvent(privacy.noise_multiplier))
        accountant.compose(step, steps * runs)
    return float(accountant.get_epsilon(privacy.delta))


def evaluation_epsilon(privacy: Privacy, releases: int, discretization: float = _FINE) -> float:
    """Epsilon at `privacy.delta` of releasing evaluation sums `releases` times; inf without noise."""
    from dp_accounting import dp_event, pld

    if privacy.evaluation_noise_multiplier <= 0:
        return math.inf
    accountant = pld.PLDAccountant(value_discretization_interval=discretization)
    accountant.compose(dp_event.GaussianDpEvent(privacy.evaluation_noise_multiplier), releases)
    return float(accountant.get_epsilon(privacy.delta))


def epsilon_by_round(task: Task, run: int = 1, most_points: int = 40) -> List[Tuple[int, float]]:
    """(round, epsilon spent once that round's noised answers are out) of the `run`-th training, for charts.

    Earlier trainings on the same records are included. At most about `most_points` rounds, the last always among them; each
    value is what `epsilon_spent` gives, or `evaluation_epsilon` where the records held out have spent more.
    """
    from dp_accounting import dp_event, pld

    privacy, training = task.privacy, task.training
    accountant = pld.PLDAccountant(value_discretization_interval=_FINE)
    step = dp_event.PoissonSampledDpEvent(privacy.sampling_rate, dp_event.GaussianDpEvent(privacy.noise_multiplier))
    if task.standardizes:
        accountant.compose(dp_event.GaussianDpEvent(privacy.statistics_noise_multiplier), run)
    if run > 1:
        accountant.compose(step, task.steps * (run - 1))
    numbers = {*range(1, task.last_round, math.ceil(training.rounds / most_points)), training.rounds, task.last_round}
    points: List[Tuple[int, float]] = []
    trained, evaluations = 0, task.evaluations * (run - 1)
    for number in sorted({0, *numbers} if task.standardizes or run > 1 else numbers):
        steps = training.local_steps * (min(number, training.rounds) - trained)
        if steps:
            accountant.compose(step, steps)
        trained = min(number, training.rounds)
        epsilon = float(accountant.get_epsilon(privacy.delta))
        released = evaluations + sum(task.evaluates(n) for n in range(number + 1))
        points.append((number, max(epsilon, evaluation_epsilon(privacy, released)) if released else epsilon))
    return points


def plan_noise(task: Task) -> Task:
    """The task with noise multipliers such that all of `privacy.runs` trainings spend at most `privacy.epsilon`.

    Records held out for evaluation are never trained on, and the others never evaluated on: each kind may spend all of epsilon.

    Multipliers the task already states are kept. Raises PrivacyError when no noise up to 200 clip norms suffices.
    """
    if not task.privacy.on:
        return task
    task = _plan_evaluation_noise(task)
    privacy = task.privacy

    def with_noise(noise: float) -> Privacy:
        return replace(
            privacy,
            noise_multiplier=privacy.noise_multiplier or noise,
            statistics_noise_multiplier=privacy.statistics_noise_multiplier or STATISTICS_SHARE * noise,
            statistics_clip_norm=privacy.statistics_clip_norm or 0.5 * math.sqrt(max(1, len(task.schema.numbers()))),
        )

    def spent(noise: float) -> float:
        return epsilon_spent(with_noise(noise), task.steps, task.standardizes, privacy.runs, _COARSE)

    if privacy.noise_multiplier and (privacy.statistics_noise_multiplier or not task.standardizes):
        return replace(task, privacy=with_noise(privacy.noise_multiplier))
    low, high = 0.2, 1.0
    while spent(high) > privacy.epsilon:
        low, high = high, 2 * high
        if high > _MAX_NOISE:
            each = f" in each of {privacy.runs} runs" if privacy.runs > 1 else ""
            raise PrivacyError(
                f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} cannot be met with {task.steps} steps{each}: it "
                f"would spend {spent(_MAX_NOISE):.3g} even with noise of {_MAX_NOISE:g} clip norms. Raise epsilon or take "
                "fewer rounds"
            )
    while high - low > 2e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= privacy.epsilon else (middle, high)
    return replace(task, privacy=with_noise(math.ceil(high * 1000) / 1000))


def _plan_evaluation_noise(task: Task) -> Task:
    privacy, releases = task.privacy, task.evaluations * task.privacy.runs
    if not releases or privacy.evaluation_noise_multiplier:
        return task

    def with_noise(noise: float) -> Privacy:
        return replace(privacy, evaluation_noise_multiplier=noise)

    low, high = 0.0, 1.0
    while evaluation_epsilon(with_noise(high), releases, _COARSE) > privacy.epsilon:
        low, high = high, 2 * high
        if high > _MAX_NOISE * 100:
            raise PrivacyError(f"epsilon {privacy.epsilon:g} cannot be met with {releases} federated evaluations")
    while high - low > 2e-3 * high:
        middle = (low + high) / 2
        met = evaluation_epsilon(with_noise(middle), releases, _COARSE) <= privacy.epsilon
        low, high = (low, middle) if met else (middle, high)
    return replace(task, privacy=with_noise(math.ceil(high * 1000) / 1000))


def statement(task: Task, records: Dict[str, int], run: int = 1) -> Dict[str, Any]:
    """What the manifest of the `run`-th model says about privacy: claim, mechanism, and what is not covered.

    A later training starts from the earlier model and uses the same records, so its epsilon is that of all so far.
    """
    privacy = task.privacy
    if not privacy.on:
        return {
            "unit": "none",
            "epsilon": None,
            "delta": None,
            "claim": "Trained without differential privacy: updates can reveal records. Records themselves stayed on the nodes.",
        }
    epsilon = epsilon_spent(privacy, task.steps, task.standardizes, run)
    if task.evaluation.on:
        epsilon = max(epsilon, evaluation_epsilon(privacy, task.evaluations * run))
    return {
        "unit": "record",
        "adjacency": "add or remove one record of one node",
        "epsilon": epsilon,
        "epsilon_target": privacy.epsilon,
        "delta": privacy.delta,
        "accountant": f"dp-accounting {version('dp-accounting')} PLD",
        "claim": (
            f"Everything the nodes sent, and so every model, is ({epsilon:.3g}, {privacy.delta:g})-differentially private "
            "for each record, also towards the gateway."
        ),
        "mechanism": "per-record gradient clipping, Gaussian noise on the node, before anything leaves it",
        "noise_multiplier": privacy.noise_multiplier,
        "clip_norm": privacy.clip_norm,
        "sampling": f"Poisson, rate {privacy.sampling_rate:g} on every node at every step",
        "steps": task.steps,
        "rounds": task.training.rounds,
        "run": run,
        "runs_planned": privacy.runs,
        "statistics": (
            f"standardization sums released once with noise multiplier {privacy.statistics_noise_multiplier:g}, included"
            if task.standardizes
            else "none released"
        ),
        "evaluation": (
            f"sums over held-out records released {task.evaluations} times a run with noise multiplier "
            f"{privacy.evaluation_noise_multiplier:g}, included: those records are never trained on"
            if task.evaluation.on
            else "none released"
        ),
        "composition": "parallel over nodes: a record lies with one node",
        "records_per_node": dict(sorted(records.items())),
        "not_covered": [
            "the number of records of each node (published)",
            "a person with several records: the unit is one record, not one person",
            "a record held by several nodes: its epsilon adds up over them",
            "the choice of hyperparameters, made without charging it to the budget",
            "records outside the nodes: test and calibration rows the gateway holds",
            "how long a node takes to answer, which hints at the size of its random sample",
            "the lowest bits of floating-point Gaussian noise (Mironov 2012)",
            "a node that deviates from its program",
        ],
    }
