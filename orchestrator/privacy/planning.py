"""What a privacy budget costs in usefulness, before anyone trains: unit x fleet x epsilon that cannot work is refused.

One figure decides, the noise-to-signal ratio

    r = |noise on the sum of all steps| / |the longest sum of all steps| = N sqrt(parameters) / (units a step * steps),

N being the standard deviation, in clip norms, of the noise on one parameter summed over all steps: z sqrt(steps) for independent
noise. The longest sum is the one of units that all pull the same way, each by its whole clip norm; real ones are shorter, so
r is on the hopeful side. What it means was measured (benchmarks/noise_to_signal.py; accuracy of linear models):

    r     heart disease, 13 inputs   breast cancer, 30   digits, 64 and 10 classes
    0     .80                        .96                 .86
    0.1   .79                        .96                 .82
    0.3   .76                        .93                 .61
    0.9   .66                        .85                 .25
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

from orchestrator.errors import PrivacyError
from orchestrator.privacy import terms
from orchestrator.privacy.releases import work_of
from orchestrator.wire.task import Task

COSTLY = 0.1
IMPOSSIBLE = 0.3
"""Noise-to-signal ratios above which training costs a few points of accuracy, and above which little is learned."""

EPSILONS = (1.0, 3.0, 8.0)
_MOST_UNITS = 10**12


@dataclass(frozen=True)
class Fleet:
    """nodes: of the federation. units: records, patients or nodes it has in all. parameters: of the model."""

    nodes: int
    units: int
    parameters: int

    def __post_init__(self) -> None:
        if min(self.nodes, self.units, self.parameters) < 1:
            raise PrivacyError("nodes, rows (or patients) and parameters must be at least 1 each")


@dataclass(frozen=True)
class Outlook:
    """What one epsilon asks for. Multipliers are in clip norms; verdict: "possible", "costly" or "impossible"."""

    epsilon: float
    delta: float
    noise_multiplier: float  # of the sum of one step (round) that the claim is about
    node_multiplier: float  # what one node adds; 0 where the gateway does
    units_a_step: float  # expected
    mean_deviation: float  # of one step's mean, on each parameter
    noise_to_signal: Optional[float]  # None where nothing could be planned, and all above 0
    verdict: str
    enough: Optional[
        int
    ]  # units (of unit node: nodes asked a round) with which it would be possible; None: it is, or none
    enough_delta: float  # that claim's delta: it must be below 1 / enough
    reason: str  # why it is impossible, where no number says so

    def to_dict(self) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


_STATED = tuple(f"{kind}noise_multiplier" for kind in ("", "statistics_", "evaluation_", "count_"))
"""Fields of Privacy that are planned where the task leaves them at 0."""


def delta_for(units: int) -> float:
    """Below 1/units: units^-1.1, two digits, rounded down."""
    value = max(2, units) ** -1.1
    scale = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.floor(value / scale * 10) / 10 * scale:.2g}")


def check_delta(task: Task, units: int) -> None:
    """PrivacyError where delta would let one whole unit of `units` leak: publishing one at random is (0, 1/units)-private."""
    delta, unit = task.privacy.delta, terms.unit_of(task.privacy)
    if task.privacy.on and delta * units >= 1:
        raise PrivacyError(
            f"delta {delta:g} is not below 1/{units}: a program that publishes one {unit} of {units} in full would satisfy "
            f"it. Choose at most {delta_for(units):g}"
        )


def budget_spent(planned: Task) -> float:
    """Epsilon of all runs of a task whose noise is planned. PrivacyError where what it stated spends more than its budget."""
    from orchestrator.privacy.accounting import epsilon_spent

    privacy = planned.privacy
    spent = {group: epsilon_spent(planned, privacy.runs, group=group) for group in ("held-out", "trained")}
    if spent["held-out"] > privacy.epsilon:
        raise PrivacyError(
            f"the evaluation_noise_multiplier the task states spends epsilon {spent['held-out']:.3g} on held-out records, "
            f"more than its epsilon {privacy.epsilon:g}: raise it, or leave it out and let the gateway plan it"
        )
    if spent["trained"] > privacy.epsilon:
        raise PrivacyError(
            f"the noise the task states spends epsilon {spent['trained']:.3g} over {privacy.runs} x {planned.steps} steps, "
            f"more than its epsilon {privacy.epsilon:g}: raise noise_multiplier, or leave it out and let the gateway plan it"
        )
    return max(spent.values())


def outlook(task: Task, fleet: Fleet) -> Outlook:
    """Plans the noise for the task's own budget and judges it. Raises PrivacyError for a task without privacy."""
    from orchestrator.privacy.accounting import plan_noise

    if not task.privacy.on:
        raise PrivacyError(f"{terms.setting(task.privacy)}: there is nothing to plan")
    try:
        check_delta(task, fleet.units)
        planned = plan_noise(task)
        if any(getattr(task.privacy, name) for name in _STATED):
            budget_spent(planned)
        ratio = noise_to_signal(planned, fleet)
    except PrivacyError as error:
        return _refused(task, str(error))
    units = units_a_step(task, fleet)
    enough, delta = (None, 0.0) if ratio <= COSTLY else enough_units(planned, fleet)
    node, step = _shares(planned, fleet)
    return Outlook(
        epsilon=task.privacy.epsilon,
        delta=task.privacy.delta,
        noise_multiplier=work_of(planned).noise_multiplier,
        node_multiplier=node,
        units_a_step=units,
        mean_deviation=step / units,
        noise_to_signal=ratio,
        verdict="possible" if ratio <= COSTLY else "costly" if ratio <= IMPOSSIBLE else "impossible",
        enough=enough,
        enough_delta=delta,
        reason="",
    )


def plan(task: Task, fleet: Fleet) -> List[Outlook]:
    """Outlooks for epsilon 1, 3, 8 and the task's own, ascending. Multipliers the task states hold for its own only."""
    own = task.privacy
    unstated: Dict[str, Any] = dict.fromkeys(_STATED, 0.0)
    bare = replace(own, **unstated)
    return [
        outlook(task if e == own.epsilon else replace(task, privacy=replace(bare, epsilon=e)), fleet)
        for e in sorted({*EPSILONS, own.epsilon})
    ]


def refuse_impossible(task: Task, nodes: int) -> None:
    """PrivacyError, with numbers, where unit "node" and a fleet of `nodes` leave nothing to learn from. No override.

    `task` has its noise planned. Parameters it does not know count as one: then only what is surely impossible is refused.
    """
    if not task.privacy.of_nodes:
        return
    check_delta(task, nodes)
    fleet = Fleet(nodes, nodes, max(1, task.training.parameters))
    ratio = noise_to_signal(task, fleet)
    if ratio <= IMPOSSIBLE:
        return
    enough, delta = enough_units(task, fleet)
    raise PrivacyError(impossible(task, fleet, ratio, enough, delta))


def impossible(task: Task, fleet: Fleet, ratio: float, enough: Optional[int], delta: float) -> str:
    """The refusal in words."""
    privacy = task.privacy
    units = terms.units_of(privacy)
    if enough is None:
        remedy = "No fleet size would be enough"
    else:
        a_round = " a round" if privacy.of_nodes else ""
        remedy = f"It would take {enough:,} {units}{a_round} (delta {delta:g}) to come to {COSTLY:g}"
    other = f" Or protect {terms.SMALLER_UNITS}." if privacy.of_nodes else ""
    return (
        f"unit {terms.unit_of(privacy)!r} with {fleet.units:,} {units} cannot work: epsilon {privacy.epsilon:g} at delta "
        f"{privacy.delta:g} over {task.steps} steps takes a noise multiplier of {work_of(task).noise_multiplier:.3g}, so that "
        f"noise is {ratio:.2g} times as long as all that about {units_a_step(task, fleet):.3g} {units} a step could say "
        f"({fleet.parameters:,} parameters). Above {IMPOSSIBLE:g} little is learned. {remedy}.{other}"
    )


def units_a_step(task: Task, fleet: Fleet) -> float:
    """Units one step (of unit node: one round) is expected to be over: what its sum is divided by."""
    selection = task.selection
    if not task.privacy.of_nodes:
        return fleet.units * task.privacy.sampling_rate * nodes_a_round(task, fleet.nodes) / fleet.nodes
    return nodes_a_round(task, fleet.nodes) if not selection.cohort else min(selection.cohort, fleet.nodes)


def nodes_a_round(task: Task, nodes: int) -> float:
    """Expected."""
    selection = task.selection
    return min(selection.cohort, nodes) if selection.cohort else nodes * (selection.sampling_rate or 1.0)


def noise_to_signal(task: Task, fleet: Fleet) -> float:
    """r of this file's first lines, for a task with its noise planned. Raises PrivacyError where noise cannot be shared so."""
    units = units_a_step(task, fleet)
    _, step = _shares(task, fleet)
    summed = step * math.sqrt(task.steps)
    if task.privacy.bands > 1:
        from orchestrator.privacy.correlated import summed_deviation

        summed = step * summed_deviation(task.privacy.bands, task.training.rounds)
    return summed * math.sqrt(fleet.parameters) / (units * task.steps)


def enough_units(task: Task, fleet: Fleet) -> Tuple[Optional[int], float]:
    """(fewest units with which r is at most COSTLY, that claim's delta); (None, delta) when no number is enough.

    Of unit node: nodes asked a round. The noise is planned again where so many units need a smaller delta.
    """
    from orchestrator.privacy.accounting import plan_noise

    delta = task.privacy.delta
    for _ in range(8):
        found = _fewest(task, fleet)
        if found is None:
            return None, delta
        units = max(fleet.units if task.selection.cohort else 0, _of_size(task, fleet, found)[1].units)
        if delta * units < 1:
            return found, delta
        delta = delta_for(2 * units)
        unstated: Dict[str, Any] = {"delta": delta, **dict.fromkeys(_STATED, 0.0)}
        try:
            task = plan_noise(replace(task, privacy=replace(task.privacy, **unstated)))
        except PrivacyError:
            return None, delta
    return None, delta


def _fewest(task: Task, fleet: Fleet) -> Optional[int]:
    def fits(units: int) -> bool:
        if task.privacy.of_nodes and units < task.rounds.quorum:
            return False
        try:
            return noise_to_signal(*_of_size(task, fleet, units)) <= COSTLY
        except PrivacyError:  # adaptive clipping: the count alone spends it all, with so few nodes
            return False

    low, high = 0, 1
    while not fits(high):
        low, high = high, 2 * high
        if high > _MOST_UNITS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _of_size(task: Task, fleet: Fleet, units: int) -> Tuple[Task, Fleet]:
    """The same with `units` records or patients on as many nodes, or with so many nodes a round."""
    if not task.privacy.of_nodes:
        return task, replace(fleet, units=units)
    # Correlated noise: the others sit out meanwhile.
    nodes = max(1, math.ceil(units / (task.selection.sampling_rate or 1.0))) * task.privacy.bands
    selection = replace(task.selection, cohort=units if task.selection.cohort else 0)
    rounds = replace(task.rounds, nodes=max(nodes, task.rounds.quorum))
    return replace(task, selection=selection, rounds=rounds), replace(fleet, nodes=nodes, units=nodes)


def _shares(task: Task, fleet: Fleet) -> Tuple[float, float]:
    """(what one node adds, what is on the sum of one step), standard deviations in clip norms."""
    privacy = task.privacy
    noise, cohort = work_of(task).noise_multiplier, nodes_a_round(task, fleet.nodes)
    if privacy.clip_quantile:
        from orchestrator.privacy.adaptive_clip import split_multiplier

        noise = split_multiplier(noise, cohort).update
    if privacy.central:
        return 0.0, noise
    if privacy.distributed:
        least = task.aggregation.least
        if fleet.nodes < least:
            raise PrivacyError(
                f"noise 'distributed': no sum over fewer than {least} nodes (honest + colluding) is opened, there are "
                f"{fleet.nodes}"
            )
        noise /= math.sqrt(task.aggregation.honest)
    return noise, noise * math.sqrt(cohort)


def _refused(task: Task, reason: str) -> Outlook:
    privacy = task.privacy
    return Outlook(privacy.epsilon, privacy.delta, 0.0, 0.0, 0.0, 0.0, None, "impossible", None, 0.0, reason)
