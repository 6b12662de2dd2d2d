"""From noise to epsilon and back, with Google's dp-accounting (privacy loss distributions). Gateway only.

What is added up is what charges.py reads off the declaration; this file finds noise that keeps it within the budget. A
record or patient lies with one node, so the nodes' mechanisms compose in parallel and epsilon is that of a single node's (or,
where noise is shared, of the sum's).
"""

import math
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Callable, Container, Dict, Iterable, List, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.privacy.charges import (
    LEAST_EXACT,
    Charge,
    Grid,
    charges_of,
    epsilon_at,
    epsilon_of,
)
from orchestrator.privacy.clipping import with_clipping
from orchestrator.privacy.closeness import Correction, correction
from orchestrator.privacy.gaussian_losses import composition, repeated
from orchestrator.privacy.grids import grids_of
from orchestrator.privacy.releases import GROUPS, KINDS, noise_multipliers, work_of
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.protection import MOST_COUNT_NOISE
from orchestrator.wire.task import Task

STATISTICS_COST = 0.085
"""Of the budget goes to the standardization release, about, when the gateway plans its noise and that of training."""

EVALUATION_SHARE = 2.5
"""The same for evaluation sums of the unit that is also trained on (a node): records held out have a budget of their own."""

EVALUATION_BESIDE_SCORES = 0.1
"""Of the held-out records' budget goes to evaluation, about, where they also score other nodes' models."""

COUNT_COST = 0.05
"""Of the budget goes to the number of units a node states, about."""

_MAX_NOISE = 200.0
_FINE, _COARSE = 1e-4, 1e-3
"""Discretization of the privacy loss; a coarser one only overstates epsilon, and is faster to search with."""


def accountant() -> str:
    """Name and version, as statements give it."""
    return f"dp-accounting {version('dp-accounting')} PLD"


def epsilon_spent(task: Task, run: int = 1, group: str = "", parties: int = 0, discretization: float = _FINE) -> float:
    """Epsilon at the task's delta after `run` trainings on the same data; inf where something has no noise.

    It is what the noise of whole numbers that is really drawn spends: see closeness.py. `group`: of one group of charges only.
    `parties`: with the noise of so many of the nodes that share it, instead of the declared ones (noise "distributed").
    """
    return _stated(task, charges_of(task, run), run, group, parties, lambda some: epsilon_at(some, discretization))


def correction_of(task: Task, run: int = 1, parties: int = 0, kinds: Container[str] = KINDS) -> Correction:
    """What all releases of `run` trainings give away beyond Gaussian noise. Raises PrivacyError for noise nobody can draw.

    kinds: those a unit may be part of. What it is in no release of says as much with it as without, whatever the noise.
    """
    eta = delta = 0.0
    for kind, release in grids_of(task).items():
        if kind not in kinds:
            continue
        one = _close(release.mechanism, release.std, _parties(kind, release, parties), release.values * run)
        # One release's noise after the other is replaced: losses add up, and a delta comes on top of what follows.
        eta, delta = eta + one.eta, math.exp(one.eta) * delta + one.delta
    return Correction(eta, delta, math.nan)


def epsilon_by_round(task: Task, run: int = 1, most_points: int = 40) -> List[Tuple[int, float]]:
    """(round, epsilon spent once that round's noised answers are out) of the `run`-th training, for charts.

    Earlier trainings on the same data are included. At most about `most_points` rounds, the last always among them; each value
    is what `epsilon_spent` would give if the training ended there.
    """
    rounds = task.training.rounds
    numbers = {*range(1, task.last_round, math.ceil(rounds / most_points)), rounds, task.last_round}
    return epsilon_of_rounds(task, run, {0, *numbers} if task.standardizes or run > 1 else numbers)


def epsilon_of_rounds(task: Task, run: int, numbers: Iterable[int]) -> List[Tuple[int, float]]:
    """(round, epsilon spent once that round's noised answers are out) of these rounds, ascending; see epsilon_by_round."""
    running = _Running()
    points: List[Tuple[int, float]] = []
    for number in sorted(numbers):
        points.append((number, _stated(task, _charges_until(task, run, number), run, "", 0, running.epsilon_at)))
    return points


def plan_noise(task: Task) -> Task:
    """The task with noise multipliers such that all of `privacy.runs` trainings spend at most `privacy.epsilon`.

    Data held out for evaluation is never trained on, and the rest never evaluated on: each kind may spend all of epsilon. (But
    not with unit "node", which is both.) Multipliers the task already states are kept, and a clip norm it lacks is chosen. Raises
    PrivacyError when no noise up to 200 clip norms suffices.
    """
    if not task.privacy.on:
        return task
    task = with_clipping(task)
    if task.evaluation.on and task.privacy.within_node and not _held_out_planned(task):
        task = _plan_evaluation(task)
    privacy, stated_noise = task.privacy, work_of(task).noise_multiplier

    def with_noise(noise: float) -> Task:
        planned = replace(
            privacy,
            noise_multiplier=stated_noise or noise,
            statistics_noise_multiplier=privacy.statistics_noise_multiplier or _statistics_share(task) * noise,
            statistics_clip_norm=privacy.statistics_clip_norm or 0.5 * math.sqrt(max(1, len(task.schema.numbers()))),
        )
        if privacy.within_node:
            planned = replace(
                planned,
                count_noise_multiplier=privacy.count_noise_multiplier
                or min(MOST_COUNT_NOISE, _count_share(task) * noise),
            )
        if task.evaluation.on and not privacy.evaluation_noise_multiplier:
            planned = replace(planned, evaluation_noise_multiplier=EVALUATION_SHARE * noise)
        return replace(task, privacy=planned)

    named = noise_multipliers(with_noise(0.0))
    kinds = {charge.kind for charge in charges_of(with_noise(1.0)) if charge.group == "trained"} - {"count"}
    if all(named[kind] for kind in kinds):
        return with_noise(stated_noise)
    each = f" in each of {privacy.runs} runs" if privacy.runs > 1 else ""
    stated = f" of the noise_multiplier {stated_noise:g} the task states" if stated_noise else ""
    return with_noise(
        _least_noise(
            with_noise, "trained", _MAX_NOISE, f"{task.steps} {'steps' if task.trains else 'rounds'}{each}{stated}"
        )
    )


def _statistics_share(task: Task) -> float:
    """Noise of the statistics relative to training's. Steps with sampling rate q spend about q^2 of what whole ones do."""
    return min(5.0, max(0.3, 1.0 / math.sqrt(STATISTICS_COST * _steps_spent(task))))


def _count_share(task: Task) -> float:
    """Noise of the stated number of units relative to training's, as above. At most 20 times: what it costs then is little."""
    return min(20.0, max(0.3, 1.0 / math.sqrt(COUNT_COST * _steps_spent(task))))


def _steps_spent(task: Task) -> float:
    """About as many whole releases as training is; more than none however small the sample."""
    return max(1e-9, task.steps * task.privacy.sampling_rate**2)


def _held_out_planned(task: Task) -> bool:
    privacy = task.privacy
    return bool(privacy.evaluation_noise_multiplier and (privacy.score_noise_multiplier or not task.scorings))


def _plan_evaluation(task: Task) -> Task:
    """Of all that is released of held-out records: evaluations and, where nodes score each other's models, these scores."""
    beside = (1 / EVALUATION_BESIDE_SCORES - 1) * task.evaluations
    ratio = math.sqrt(beside / task.scorings) if task.scorings else 1.0

    def with_noise(noise: float) -> Task:
        privacy = task.privacy
        scores = privacy.score_noise_multiplier or (noise if task.scorings else 0.0)
        evaluations = privacy.evaluation_noise_multiplier or max(0.2, ratio) * noise
        planned = replace(privacy, evaluation_noise_multiplier=evaluations, score_noise_multiplier=scores)
        return replace(task, privacy=planned)

    what = f"{task.evaluations * task.privacy.runs} federated evaluations"
    what += f" and {task.scorings * task.privacy.runs} scores of other nodes' models" if task.scorings else ""
    return with_noise(_least_noise(with_noise, "held-out", 100 * _MAX_NOISE, what))


def _least_noise(with_noise: Callable[[float], Task], group: str, most: float, what: str) -> float:
    """By bisection, rounded up to thousandths, such that all runs' charges of `group` fit into the budget."""
    privacy = with_noise(1.0).privacy

    def spent(noise: float) -> float:
        charges = charges_of(with_noise(noise), privacy.runs)
        return epsilon_of([charge for charge in charges if charge.group == group], privacy.delta, _COARSE)

    low, high = 0.2, 1.0
    while (spends := spent(high)) > privacy.epsilon:
        low, high = high, 2 * high
        if high > most:
            raise PrivacyError(
                f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} cannot be met with {what}: it would spend "
                f"{spent(most):.3g} even with noise of {most:g} times what one {unit_of(privacy)} can change. Raise epsilon or "
                "take fewer rounds"
            )
    too_little, enough = _near(spent, privacy.epsilon, low, high, spends)
    while high - low > 2e-3 * high:
        middle = (low + high) / 2
        fits = middle >= enough or (middle > too_little and spent(middle) <= privacy.epsilon)
        low, high = (low, middle) if fits else (middle, high)
    noise = math.ceil(high * 1000) / 1000
    # The search was with Gaussian noise; noise of whole numbers spends a trace more.
    while (spends := epsilon_spent(with_noise(noise), privacy.runs, group, discretization=_COARSE)) > privacy.epsilon:
        noise = math.ceil(noise * (1002 if math.isfinite(spends) else 1050)) / 1000
        if noise > most:
            raise PrivacyError(
                f"epsilon {privacy.epsilon:g} at delta {privacy.delta:g} cannot be met with {privacy.mechanism} noise: it gives "
                "away more than continuous noise would. Use mechanism 'discrete-gaussian' or a larger delta"
            )
    return noise


def _near(
    spent: Callable[[float], float], epsilon: float, low: float, high: float, spends: float
) -> Tuple[float, float]:
    """(noise that is too little, noise that is enough) within [low, high] and close together: bisection asks only between them.

    By secants: the logarithm of epsilon is nearly a line in that of the noise. spends: epsilon of `high`.
    """
    noise, slope, above = high, -1.5, True
    for _ in range(6):
        if high / low < 1 + 2e-3 or not 0 < spends < math.inf:
            break
        root = noise * (epsilon / spends) ** (1 / slope)
        # To the other side of the root than the last: the two together enclose it.
        tried = root * (1 - 5e-4 if above else 1 + 5e-4)
        tried = tried if low < tried < high else (low + high) / 2
        found = spent(tried)
        if not 0 < found < math.inf or found == spends:
            break
        slope = min(-0.2, math.log(found / spends) / math.log(tried / noise))
        noise, spends, above = tried, found, found <= epsilon
        low, high = (low, tried) if above else (tried, high)
    return low, high


def _parties(kind: str, release: Grid, parties: int) -> int:
    """How many parties' noise a release rests on: `parties` if given, but a node's own count on its own noise."""
    return release.parties if kind == "count" else parties or release.parties


@lru_cache(maxsize=256)
def _close(mechanism: str, std: int, parties: int, values: int) -> Correction:
    # Its delta counts e^epsilon times: this one leaves epsilons up to 85 or so finite.
    return correction(mechanism, std, parties, values, log10_delta=-40)


def _stated(
    task: Task,
    charges: Tuple[Charge, ...],
    run: int,
    group: str,
    parties: int,
    epsilon_at: Callable[[List[Charge]], Callable[[float], float]],
) -> float:
    """With each multiplier that of the rounded Gaussian the real noise is close to, where that is less than was declared."""
    chosen = [charge for charge in charges if group in ("", charge.group)]
    if any(charge.noise_multiplier <= 0 for charge in chosen):
        return math.inf
    if not chosen:
        return 0.0
    declared, factors = noise_multipliers(task), {}
    for kind, release in grids_of(task).items():
        count = _parties(kind, release, parties)
        close = _close(release.mechanism, release.std, count, release.values * run)
        real = close.gaussian_std / (release.bound * declared[kind])
        factors[kind] = min(math.sqrt(count / release.parties), real)
    scaled = [replace(c, noise_multiplier=c.noise_multiplier * factors[c.kind]) for c in chosen]
    found = []
    for of_group in ([c for c in scaled if c.group == name] for name in GROUPS):
        if of_group:  # as a node counts it (node/accountant.py): a unit is of one group only
            close = correction_of(task, run, parties, {charge.kind for charge in of_group})
            found.append(close.epsilon(epsilon_at(of_group), task.privacy.delta))
    return max(found)


def _charges_until(task: Task, run: int, number: int) -> Tuple[Charge, ...]:
    """Of `run` - 1 whole trainings, and of the next one up to the answers of its round `number`."""
    earlier = charges_of(task, run - 1) if run > 1 else ()
    rounds = min(number, task.training.rounds)
    begun = replace(task, training=replace(task.training, rounds=max(1, rounds), warmup_rounds=0))
    now = []
    for charge in charges_of(begun):
        if (charge.kind == task.stages.work and rounds) or charge.kind in ("statistics", "count"):
            now.append(charge)
    released = sum(task.evaluates(n) for n in range(number + 1))
    scored = sum(task.scores(n) for n in range(number + 1))
    counts = {"evaluation": released, "score": scored}
    now += [replace(c, count=counts[c.kind]) for c in charges_of(task) if counts.get(c.kind)]
    return (*earlier, *now)


class _Running:
    """Epsilon of longer and longer lists of charges: only what came on top is composed."""

    def __init__(self) -> None:
        self._groups: Dict[str, Tuple[Any, Dict[Charge, int]]] = {}

    def epsilon_at(self, charges: List[Charge]) -> Callable[[float], float]:
        found = [self._of_group(group, [c for c in charges if c.group == group]) for group in GROUPS]
        return lambda delta: max(epsilon(delta) for epsilon in found)

    def _of_group(self, group: str, charges: List[Charge]) -> Callable[[float], float]:
        if all(charge.sampling_rate == 1 for charge in charges) or any(
            charge.noise_multiplier < LEAST_EXACT for charge in charges
        ):
            return epsilon_at(charges)  # known, or bounded, at once
        wanted: Dict[Charge, int] = {}
        for charge in charges:
            one = replace(charge, count=1)
            wanted[one] = wanted.get(one, 0) + charge.count
        composed, counted = self._groups.get(group, (None, {}))
        if composed is None or any(wanted.get(one, 0) < count for one, count in counted.items()):
            composed, counted = composition((), _FINE), {}
        for one, count in wanted.items():
            more = count - counted.get(one, 0)
            if more:
                composed = composed.compose(_losses_of(one.noise_multiplier, one.sampling_rate, more))
        self._groups[group] = (composed, wanted)
        return lambda delta: float(composed.get_epsilon_for_delta(delta))


@lru_cache(maxsize=8)  # some MiB each
def _losses_of(noise_multiplier: float, sampling_rate: float, count: int) -> Any:
    """The losses of `count` releases, once for all rounds that are alike."""
    return repeated(noise_multiplier, sampling_rate, count, _FINE)
