"""Builds that are broken on purpose, to show that the audit notices. For the time of a `with` block, in this process only.

Nothing outside this folder can reach them. A kind is what it is called, what is wrong in it, which task it takes, and what of
the product it replaces (broken_noise.py, broken_units.py).
"""

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Tuple
from unittest.mock import patch

from orchestrator.audit import broken_noise as noise
from orchestrator.audit import broken_units as units
from orchestrator.errors import UsageError
from orchestrator.wire.task import Task

Patches = Tuple[Tuple[Any, str, Any], ...]


@dataclass(frozen=True)
class Kind:
    """needs: what a task must have for the mistake to show, a key of `NEEDS`. make: from the units of the smallest node."""

    about: str
    make: Callable[[int], Patches]
    needs: str = "privacy"


NEEDS: Dict[str, Tuple[Callable[[Task], bool], str]] = {
    "privacy": (lambda task: task.privacy.on, "the task claims no privacy"),
    "within": (
        lambda task: task.privacy.within_node,
        "where a node is the unit, or nothing is, nothing is sampled, or clipped in batches",
    ),
    "one generator": (
        lambda task: task.privacy.on and task.trains,
        "each release of an analysis has a generator of its own (noise-of-all-nodes reuses what all of them draw)",
    ),
    "empty": (lambda task: task.privacy.on and task.trains, "an analysis is of all records, and no sample is empty"),
    "sample": (
        lambda task: task.privacy.within_node and task.privacy.sampling_rate < 1,
        "the task samples no records or patients",
    ),
    "patient": (lambda task: task.privacy.of_patients, "the task's unit is not 'patient'"),
    "own mean": (
        lambda task: task.privacy.within_node and task.privacy.local and task.trains,
        "it is not the nodes that divide by a number of units",
    ),
    "shares": (
        lambda task: task.privacy.distributed,
        "the task's noise is not 'distributed'",
    ),
    "statistics": (lambda task: task.privacy.on and task.standardizes, "the task has no standardization sums"),
    "patient statistics": (
        lambda task: task.privacy.of_patients and task.standardizes,
        "the task has no standardization sums of patients",
    ),
    "evaluation": (lambda task: task.privacy.on and task.evaluation.on, "the task has no federated evaluation"),
    "held out": (
        lambda task: task.privacy.within_node and task.evaluation.on,
        "the task has no federated evaluation of records or patients",
    ),
    "patient evaluation": (
        lambda task: task.privacy.of_patients and task.evaluation.on,
        "the task has no federated evaluation of patients",
    ),
    "tally": (
        lambda task: task.privacy.clip_tally and task.privacy.within_node,
        "the task counts no clipped records or patients",
    ),
    "masks": (
        lambda task: task.aggregation.method == "masked",
        "the task's aggregation has no masks",
    ),
}

KINDS: Dict[str, Kind] = {
    # Of the noise
    "noise-off": Kind("no noise is added", noise.off),
    "wrong-scale": Kind(
        "noise is divided by the root of the number of units, as if it were that of a mean", noise.of_a_mean
    ),
    "noise-less": Kind("noise is a tenth too small", noise.less),
    "noise-tenth": Kind("noise is a tenth of the declared", noise.tenth),
    "noise-cut": Kind("noise is cut at two standard deviations", noise.cut),
    "noise-uniform": Kind("noise is uniform, of the declared deviation", noise.uniform),
    "noise-laplace": Kind("noise is that of Laplace, of the declared deviation", noise.laplace),
    "noise-reused": Kind("the same noise in every round", noise.reused, "one generator"),
    "noise-of-all-nodes": Kind("the n-th release of every node has the same noise", noise.of_all_nodes),
    "noise-signs": Kind("the same noise in every round, with other signs", noise.signs),
    "noise-broadcast": Kind("one number of noise for all coordinates", noise.broadcast),
    "noise-in-pairs": Kind("the second half of the coordinates has the noise of the first", noise.in_pairs),
    "noise-not-last": Kind("the last coordinate has no noise", noise.not_last),
    "noise-every-second": Kind("every second release has no noise", noise.every_second),
    "noise-before-clipping": Kind("noise is added to each gradient, and clipped with it", noise.before_clipping),
    "empty-silent": Kind("an empty sample is released without noise", noise.empty_silent, "empty"),
    "multiplier-ignored": Kind("noise is that of multiplier 1, whatever the task declares", noise.multiplier_ignored),
    "coarse-grid": Kind("the grid is too coarse for its noise", noise.coarse_grid),
    "noise-share": Kind(
        "a share of the noise is divided by the number of parties, not by its root", noise.share, "shares"
    ),
    "fixed-key": Kind("the generator's key is a constant", noise.fixed_key),
    "seeded": Kind("random bits come from a generator with a seed", noise.seeded),
    "tally-noise-off": Kind("the tally of clipped units has no noise", noise.tally_off, "tally"),
    "tally-twice": Kind("a clipped unit counts twice in the tally", noise.tally_twice, "tally"),
    # Of the sample
    "same-sample": Kind("the same sample in every step", units.same_sample, "sample"),
    "fixed-size": Kind("samples of a fixed size", units.fixed_size, "sample"),
    "epochs": Kind("no unit is sampled again before all others were", units.epochs, "sample"),
    "rate-up": Kind("units are sampled a tenth too often", units.rate_up, "sample"),
    "rate-up-slightly": Kind("units are sampled 3 % too often", units.rate_up_slightly, "sample"),
    "rate-of-half": Kind(
        "half of the units are sampled a fifth too often, the others too rarely", units.rate_of_half, "sample"
    ),
    "sample-twice": Kind("units are sampled with replacement", units.sample_twice, "sample"),
    "sample-in-pairs": Kind("neighbouring units are sampled together", units.sample_in_pairs, "sample"),
    "real-size": Kind("sums are divided by the real size of the sample", units.real_size, "own mean"),
    # Of what one unit can do
    "clip-per-batch": Kind("the mean of a batch is clipped instead of each unit", units.clip_per_batch, "within"),
    "clip-off": Kind("nothing is clipped", units.clip_off),
    "clip-halves": Kind("both halves of a gradient are clipped by themselves", units.clip_halves),
    "clip-layers": Kind("layers are clipped by themselves", units.clip_layers),
    "clip-numbers": Kind("each number is clipped, not the vector", units.clip_numbers),
    "clip-loose": Kind("vectors are clipped to 1.1 clip norms", units.clip_loose),
    "round-up": Kind("coordinates are rounded up to the grid that tasks name", units.round_up),
    "record-for-patient": Kind("each record of a patient is a unit", units.record_for_patient, "patient"),
    # Of other sums
    "statistics-noise-off": Kind("standardization sums have no noise", units.statistics_noise_off, "statistics"),
    "statistics-unclipped": Kind("standardization sums are not clipped", units.statistics_unclipped, "statistics"),
    "statistics-records": Kind(
        "a patient's records count one by one in standardization", units.statistics_records, "patient statistics"
    ),
    "evaluation-noise-off": Kind("evaluation sums have no noise", units.evaluation_noise_off, "evaluation"),
    "evaluation-twice": Kind("each record counts twice in evaluation", units.evaluation_twice, "evaluation"),
    "evaluation-loss": Kind("losses are not bounded in evaluation", units.evaluation_loss, "evaluation"),
    "evaluation-records": Kind(
        "a patient's records count one by one in evaluation", units.evaluation_records, "patient evaluation"
    ),
    "held-out-trained": Kind("held-out records are trained on, too", units.held_out_trained, "held out"),
    "held-out-by-place": Kind("a record is held out for its place in the file", units.held_out_by_place, "held out"),
    "mask-reuse": Kind("a node uses the same keys, and so the same masks, in every round", units.mask_reuse, "masks"),
}


@contextmanager
def broken_build(kind: str, units: int = 100) -> Iterator[None]:
    """`units`: of the smallest node. UsageError for a kind that there is not."""
    with ExitStack() as stack:
        for target, name, replacement in _kind(kind).make(units):
            stack.enter_context(patch.object(target, name, replacement))
        yield


def check_broken(kind: str, tasks: List[Task]) -> None:
    """UsageError for a kind that there is not, or that none of `tasks`, the audited one first, has a place for."""
    fits, otherwise = NEEDS[_kind(kind).needs]
    if not any(fits(task) for task in tasks):
        raise UsageError(f"--broken {kind}: {otherwise}")


def _kind(kind: str) -> Kind:
    if kind not in KINDS:
        raise UsageError(f"--broken {kind!r}: expected one of {', '.join(KINDS)}")
    return KINDS[kind]
