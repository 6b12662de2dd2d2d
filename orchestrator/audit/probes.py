"""Probes of the nodes' own code: noise, sampling and reach of single units, each held against what the task declares.

Gradients are chosen (bench.py), so what is released is known but for what must not be: the noise and the sample. A probe does not
know how a build could be wrong. It tests what leaves the node against the one law it may have (laws.py).
"""

from dataclasses import replace
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from scipy import special

from orchestrator.audit import laws
from orchestrator.audit.bench import Bench, Rows, of_unit
from orchestrator.audit.laws import Result
from orchestrator.privacy.noisy_sum import parties_of, training_sum
from orchestrator.privacy.own_sum import FINER
from orchestrator.wire.task import Selection, Task

QUIET = 4e-3
"""Noise multiplier where what is under the noise is to be seen."""
SLACK = 1.02
"""Noise may be larger than declared by 1 % for the grid (privacy/lattice.py, MAX_INFLATION), and by what is rounded up."""
REACH = 1.01
"""How far a unit may move a sum, in clip norms: the grid's bound on a rounded vector."""

IMAGINED = 3.0
"""Noise multiplier of sums that the task does not have."""

_SHARE = 0.5
_MOST_NUMBERS = 8_000_000
_SMALL = 4096
"""Most weights a probe works on whose result does not depend on the model's size."""


class Probe(NamedTuple):
    """One test of one kind of release. said: what is wrong, in words; of use only where `holds` is false."""

    name: str
    p: float
    holds: bool
    measured: str
    said: str

    def to_dict(self) -> Dict[str, object]:
        return self._asdict()


Found = Iterator[Tuple[str, Result]]
WORDS = {
    "size": "the noise has not the declared size",
    "law": "the noise is not normal",
    "centre": "the noise is not centred",
    "releases": "single releases have not the declared noise",
    "coordinates": "single coordinates have not the declared noise",
    "grid": "the grid of the noise is too coarse",
    "repeats": "releases share their noise",
    "pairs": "coordinates share their noise",
    "lags": "the noise repeats itself",
    "rate": "units are not sampled at the declared rate",
    "units": "units are not sampled alike",
    "sizes": "samples are not drawn unit by unit",
    "overlap": "samples depend on each other",
    "steps": "whether a unit is sampled depends on the steps before",
    "neighbours": "whether a unit is sampled depends on other units",
    "whole": "a sampled unit does not count once, in a sum divided by the expected number of units",
    "several steps": "samples of one round depend on each other",
    "rounding": "rounding to the grid has a bias",
    "tally": "a clipped unit does not count once in the tally of clipped ones",
    "keys": "generators begin alike",
    "bits": "random bits are not fair",
}


def probe(name: str, found: Callable[[], Iterable[Tuple[str, Result]]]) -> List[Probe]:
    """The tests of one play. A node that fails in it is a finding: it is not what the task declares."""
    try:
        return [_probe(name, test, result) for test, result in found()]
    except Exception as error:  # whatever it is, it is the audited code that failed, and the verdict says so
        said = f"{name}: a node fails with {type(error).__name__}: {error}"
        return [Probe(f"{name}: runs", 0.0, False, str(error), said)]


def _probe(name: str, test: str, result: Result) -> Probe:
    said = f"{name}: {WORDS.get(test, test)} ({result.measured})"
    return Probe(f"{name}: {test}", result.p, result.holds, result.measured, said)


def training_probes(bench: Bench, parameters: int, layers: Sequence[slice], effort: int) -> Iterator[List[Probe]]:
    """parameters: of the model; layers: where its tensors lie. effort: 1, or how many times as much is to be drawn."""
    privacy = bench.task.privacy
    yield probe("training noise", lambda: training_noise(bench, parameters, effort).items())
    if privacy.clip_tally and privacy.within_node:
        yield probe("clipped units", lambda: tally(bench))
        bench = bench.untallied  # what follows is about the sums
    if bench.task.training.local_steps > 1 and privacy.local and privacy.within_node:
        steps = bench.task.training.local_steps
        yield probe("noise of several steps", lambda: training_noise(bench, parameters, 1, steps).items())
        yield probe("sampling in several steps", lambda: sampling_in_a_round(bench, steps))
    if privacy.within_node:
        yield probe("sampling", lambda: sampling(bench, effort))
        yield probe("rounding", lambda: rounding(bench, parameters))
    yield probe("one unit in training", lambda: training_reach(bench, parameters, layers))


def training_noise(bench: Bench, parameters: int, effort: int, local_steps: int = 1) -> Dict[str, Result]:
    """Gradients of 0: all there is in a release is noise. One node has two units, whose sample is often empty, another 16."""
    rounds = _between(12, effort * 60_000 // parameters, 200 if effort == 1 else 1000)
    std, privacy = bench.steps_std * np.sqrt(local_steps), bench.task.privacy
    vectors = []
    for units in (2, 16) if privacy.within_node else (1, 1):
        patients = of_unit(privacy, np.repeat(np.arange(units), 2))
        rows = Rows(np.zeros((units if patients is None else 2 * units, parameters), np.float32), patients)
        vectors.append(bench.sums(rows, rounds, local_steps))
    return laws.noise(np.concatenate(vectors), std, SLACK * std)


def tally(bench: Bench) -> Found:
    """Every second unit is longer than the clip norm; of patients, by their mean."""
    units, repeats, size = 40, 8, 64
    whole = bench.changed(noise_multiplier=QUIET, sampling_rate=1.0)
    lengths = np.resize([0.5, 3.0], units) * bench.task.privacy.clip_norm
    rows = Rows(
        (lengths[:, np.newaxis] * np.eye(units, size)).astype(np.float32), of_unit(bench.task.privacy, np.arange(units))
    )
    mechanism = training_sum(whole.task, size)
    counted = whole.sums(rows, repeats)[:, -1] * mechanism.lattice.levels / mechanism.beside
    off = float(counted.mean()) - units / 2
    z = off / (SLACK * mechanism.tally_deviation / np.sqrt(repeats))
    yield "tally", Result(2 * float(special.ndtr(-abs(z))), f"{counted.mean():.2f} of {units / 2:g}")


def sampling(bench: Bench, effort: int) -> Found:
    """Each unit has a coordinate of its own, next to no noise hides who is in. Two nodes, one after the other."""
    privacy = bench.task.privacy
    rate, units = privacy.sampling_rate, 500 if privacy.sampling_rate >= 0.05 else 2000
    wanted = effort * 40_000 * (1 - rate) / rate
    rounds = _between(30, int(wanted / units / 2), _MOST_NUMBERS // units // 2)
    rows, quiet = _one_coordinate_each(bench, units), bench.changed(noise_multiplier=QUIET)
    counted = np.concatenate([quiet.sums(rows, rounds) for _ in range(2)]) / _SHARE
    yield "whole", _whole(counted, SLACK * quiet.steps_std / _SHARE)
    yield from laws.samples(counted > 0.5, rate).items()


def sampling_in_a_round(bench: Bench, steps: int) -> Found:
    """How often each unit was in the steps of one round: binomial."""
    rate, quiet = bench.task.privacy.sampling_rate, bench.changed(noise_multiplier=QUIET)
    counted = quiet.sums(_one_coordinate_each(bench, 500), 24, steps) / _SHARE
    often = np.rint(counted)
    off = float(np.abs(counted - often).max()) / (SLACK * quiet.steps_std * np.sqrt(steps) / _SHARE)
    p = 2 * float(special.ndtr(-off)) * counted.size
    yield "whole", Result(min(1.0, p), f"counted from {counted.min():.2f} to {counted.max():.2f} in {steps} steps")
    if rate < 1:
        yield "several steps", laws.dispersion(often.ravel(), steps, rate, "counts of a round vary")


def _one_coordinate_each(bench: Bench, units: int) -> Rows:
    privacy = bench.task.privacy
    gradients = (_SHARE * privacy.clip_norm * np.eye(units)).astype(np.float32)
    patients = of_unit(privacy, np.tile(np.arange(units), 3))
    if patients is not None:  # three records each, scattered; their mean is what counts
        gradients = np.concatenate([0 * gradients, gradients, 2 * gradients])
    return Rows(gradients, patients)


def _whole(counted: np.ndarray, std: float) -> Result:
    """Every unit counts 0 or 1, in every step."""
    nearest = np.clip(np.rint(counted), 0, 1)
    worst = float(np.abs(counted - nearest).max())
    sums = np.where(nearest.any(axis=1), np.abs(counted - nearest).max(axis=1), 0.0)
    p = 2 * float(special.ndtr(-worst / std)) * counted.size
    return Result(
        min(1.0, p),
        f"counted from {counted.min():.2f} to {counted.max():.2f}, in {(sums > 7 * std).sum()} steps wrongly",
    )


def rounding(bench: Bench, parameters: int) -> Found:
    """Many units with the same short gradient between two steps of the grid: their sum must be right on average.

    On the finer grid of a node's own sums (privacy/own_sum.py) it is a whole number of steps.
    """
    whole, size, units = bench.changed(sampling_rate=1.0), min(parameters, _SMALL), 512
    lattice = training_sum(whole.task, size).lattice
    fraction = 19 / FINER / lattice.levels
    rounds = _between(12, 24_000 // size, 400)
    for signs in (np.ones(size), np.resize([1.0, -1.0], size)):
        patients = of_unit(bench.task.privacy, np.arange(units))
        gradients = np.tile(signs * fraction * bench.task.privacy.clip_norm, (units, 1)).astype(np.float32)
        off = whole.sums(Rows(gradients, patients), rounds) * signs - units * fraction
        std = np.hypot(SLACK * whole.steps_std, np.sqrt(units / 4) / lattice.levels)
        z = float(off.sum()) / (std * np.sqrt(off.size))
        yield "rounding", Result(2 * float(special.ndtr(-abs(z))), f"{z:.1f} standard errors")


def training_reach(bench: Bench, parameters: int, layers: Sequence[slice], noun: str = "gradient") -> Found:
    """One unit more, with gradients of many forms, or vectors of an analysis: how far the sum moves."""
    privacy = bench.task.privacy
    size = parameters if parameters <= 20 * _SMALL else _SMALL
    quiet = bench.changed(noise_multiplier=QUIET, **({"sampling_rate": 1.0} if privacy.within_node else {}))
    crowd = 0.9 * privacy.clip_norm * np.eye(min(20, size), size) if privacy.within_node else np.zeros((0, size))
    repeats, base = 4, np.zeros(size)
    if len(crowd):
        base = _moved(quiet, crowd, 4 * repeats, 1)
    std = SLACK * quiet.steps_std * np.sqrt(1 / repeats + (1 / (4 * repeats) if len(crowd) else 0))
    for form, gradient in forms(size, privacy.clip_norm, layers if size == parameters else ()).items():
        for several, records in _records(gradient, privacy.of_patients):
            moved = _moved(quiet, np.concatenate([crowd, records]), repeats, len(records)) - base
            yield f"{form.replace('gradient', noun)}{several} moves the sum too far", laws.shift(moved, std, REACH)
    if privacy.within_node:
        yield "many units at the clip norm move the sum too far", _grid_reach(bench, min(size, _SMALL))


def _moved(bench: Bench, gradients: np.ndarray, repeats: int, of_last: int) -> np.ndarray:
    """float64 (P,): the mean sum; the last `of_last` records are of one patient."""
    owners = np.minimum(np.arange(len(gradients)), len(gradients) - of_last)
    rows = Rows(gradients.astype(np.float32), of_unit(bench.task.privacy, owners))
    return np.asarray(bench.sums(rows, repeats).mean(axis=0))


def _grid_reach(bench: Bench, size: int) -> Result:
    """On the task's own grid: what each of many equal units at the clip norm adds."""
    units, repeats = 256, 4
    whole = bench.changed(sampling_rate=1.0)
    gradients = np.full((units, size), bench.task.privacy.clip_norm / np.sqrt(size), np.float32)
    rows = Rows(gradients, of_unit(bench.task.privacy, np.arange(units)))
    moved = whole.sums(rows, repeats).mean(axis=0) / units
    return laws.shift(moved, SLACK * whole.steps_std / units / np.sqrt(repeats), REACH)


def forms(size: int, clip_norm: float, layers: Sequence[slice]) -> Dict[str, np.ndarray]:
    """Gradients, float64 (size,), that clipping must bound: long ones of every kind, and what is no number."""
    place = np.arange(size)
    found = {
        "a dense gradient": np.ones(size),
        "a gradient of changing signs": np.where(place % 2, -1.0, 1.0),
        "a gradient of one number": (place == 0).astype(float),
        "a gradient of the last number": (place == size - 1).astype(float),
        "a gradient drawn at random": np.random.default_rng().standard_normal(size),
        "a gradient with one long half": np.where(place < size / 2, 1.0, 0.01),
        "a gradient with a long first quarter": np.where(place < size / 4, 1.0, 0.01),
    }
    if len(layers) > 1:
        layered = np.zeros(size)
        for i, layer in enumerate(layers):
            layered[layer] = 10.0**-i
        found["a gradient of layers of different length"] = layered
    found = {name: 1000 * clip_norm * vector / np.linalg.norm(vector) for name, vector in found.items()}
    found["a gradient just above the clip norm"] = 1.1 * clip_norm * np.ones(size) / np.sqrt(size)
    found["a gradient of 1e30"] = np.full(size, 1e30)
    found["a gradient that is infinite"] = np.where(place == 0, np.inf, 1.0)
    found["a gradient that is not a number"] = np.where(place == size - 1, np.nan, 1.0)
    return found


def _records(gradient: np.ndarray, patient: bool) -> Iterator[Tuple[str, np.ndarray]]:
    """(in words, float64 (records, P)): of one unit."""
    yield "", gradient[np.newaxis]
    if patient:
        yield " in each of 40 records of one patient", np.tile(gradient, (40, 1))


def variants(task: Task) -> Iterator[Tuple[str, Task]]:
    """What the task does not use, but the build has: patients, a tally, several steps, shares of the noise, Skellam noise."""
    privacy, schema, aggregation = task.privacy, task.schema, task.aggregation
    if privacy.within_node and not privacy.of_patients:
        patient = replace(schema, patient=schema.patient or "patient", columns=())
        yield "unit patient", replace(task, schema=patient, privacy=replace(privacy, unit="patient"))
    if privacy.within_node and not privacy.clip_tally:
        yield "tally of clipped units", replace(task, privacy=replace(privacy, clip_tally=True))
    if privacy.within_node and not task.standardizes and schema.numbers():
        imagined = replace(privacy, statistics_clip_norm=1.0, statistics_noise_multiplier=IMAGINED)
        yield (
            "federated standardization",
            replace(task, schema=replace(schema, standardization="federated"), privacy=imagined),
        )
    if privacy.within_node and privacy.local and task.training.local_steps == 1:
        several = replace(task.training, strategy="fedavg", local_steps=4, options={})
        yield "4 steps a round", replace(task, training=several)
    if privacy.within_node and privacy.local:
        rounds = replace(task.rounds, nodes=max(3, task.rounds.nodes), quorum=max(3, task.rounds.quorum))
        masked = replace(aggregation, method="masked", honest=3, colluding=0, key_holder="", checked=True)
        training = replace(task.training, strategy="fedavg", local_steps=1, options={})
        shared = replace(privacy, noise="distributed")
        yield (
            "distributed noise",
            replace(task, training=training, rounds=rounds, aggregation=masked, selection=Selection(), privacy=shared),
        )
    if privacy.on and privacy.mechanism == "discrete-gaussian":
        yield "Skellam noise", replace(task, privacy=replace(privacy, mechanism="skellam"))


def _between(least: int, wanted: int, most: int) -> int:
    return max(least, min(wanted, most))


def noise_of(bench: Bench, multiplier: float) -> float:
    """Standard deviation of one party's noise, in what one unit can move a sum by."""
    return float(multiplier / np.sqrt(parties_of(bench.task)))
