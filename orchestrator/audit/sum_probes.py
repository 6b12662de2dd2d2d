"""Probes of the other sums that leave a node, and of who is in which: standardization, evaluation, held-out records."""

from typing import Iterator, List, Optional, Set

import numpy as np

import orchestrator.data.dataset as dataset_module
import orchestrator.node.opening as opening
from orchestrator.audit import laws
from orchestrator.audit.bench import Bench, of_unit
from orchestrator.audit.laws import Result
from orchestrator.audit.probes import IMAGINED, QUIET, REACH, SLACK, Found, Probe, noise_of, probe
from orchestrator.data.dataset import Dataset
from orchestrator.privacy.terms import unit_of
from orchestrator.wire.evaluation import SENSITIVITY

_NUMBERS = 24_000
"""Numbers of noise that are wanted of each kind of sum."""
_REPEATS = 8
_SHARE = 0.3


def sum_probes(bench: Bench, effort: int, all_of_them: bool) -> Iterator[List[Probe]]:
    """all_of_them: also what the task does not use, as far as its unit allows."""
    task = bench.task
    privacy = task.privacy
    if task.standardizes:
        yield probe("standardization noise", lambda: statistics_noise(bench, effort))
        yield probe("one unit in standardization", lambda: statistics_reach(bench))
    if task.evaluation.on or (all_of_them and not privacy.central):
        multiplier = privacy.evaluation_noise_multiplier or IMAGINED
        evaluated = bench.changed(evaluation_noise_multiplier=multiplier)
        yield probe("evaluation noise", lambda: evaluation_noise(evaluated, effort))
        yield probe("one unit in evaluation", lambda: evaluation_reach(evaluated))
        if privacy.within_node:
            yield probe("held-out records", lambda: held_out(evaluated))


def statistics_noise(bench: Bench, effort: int) -> Found:
    """All records in the middle of their ranges, where the sums are 0."""
    privacy, width = bench.task.privacy, 2 * len(bench.task.schema.numbers())
    count = max(24, min(2000, effort * _NUMBERS // (2 * width)))
    x, patients = _table(bench, [np.zeros(width // 2)] * 4), of_unit(privacy, np.array([0, 0, 1, 1]))
    std = noise_of(bench, privacy.statistics_noise_multiplier) * privacy.statistics_clip_norm
    vectors = np.concatenate([bench.statistics(x[:rows], _first(patients, rows), count) for rows in (2, 4)])
    yield from laws.noise(vectors, std, SLACK * std).items()


def statistics_reach(bench: Bench) -> Found:
    privacy, columns = bench.task.privacy, len(bench.task.schema.numbers())
    quiet = bench.changed(statistics_noise_multiplier=QUIET)
    std = SLACK * noise_of(quiet, QUIET) * privacy.statistics_clip_norm * np.sqrt(2 / _REPEATS)
    crowd = [np.zeros(columns)] * 8
    base = quiet.statistics(_table(bench, crowd), of_unit(privacy, np.arange(8)), _REPEATS).mean(axis=0)
    place = np.arange(columns)
    forms = {
        "all numbers at their maximum": np.ones(columns),
        "all numbers at their minimum": -np.ones(columns),
        "numbers at both ends": np.where(place % 2, -1.0, 1.0),
        "one number at its maximum": (place == 0).astype(float),
    }
    for form, row in forms.items():
        for records in (1, 40) if privacy.of_patients else (1,):
            owners = of_unit(privacy, np.minimum(np.arange(8 + records), 8))
            x = _table(bench, crowd + [row] * records)
            moved = quiet.statistics(x, owners, _REPEATS).mean(axis=0) - base
            name = f"{'40 records' if records > 1 else 'a record'} with {form} moves the sums too far"
            yield name, laws.shift(moved, std, REACH * privacy.statistics_clip_norm)


def _table(bench: Bench, rows: List[np.ndarray]) -> np.ndarray:
    """float32 (n, d): raw records with these numbers, given in [-1, 1] of their ranges."""
    schema = bench.task.schema
    x = np.zeros((len(rows), *schema.input_shape), np.float32)
    for i, (column, feature) in enumerate(schema.numbers()):
        middle, half = sum(feature.scaled_range) / 2, (feature.scaled_range[1] - feature.scaled_range[0]) / 2
        x[:, column] = [middle + half * row[i] for row in rows]
    return x


def _first(patients: Optional[np.ndarray], rows: int) -> Optional[np.ndarray]:
    return None if patients is None else patients[:rows]


def evaluation_noise(bench: Bench, effort: int) -> Found:
    """Differences of two releases over the same records: whatever was counted is gone."""
    privacy = bench.task.privacy
    logits = np.zeros((4, len(bench.task.schema.classes)), np.float32)
    one = bench.evaluations(logits, of_unit(privacy, np.array([0, 0, 1, 1])), 2)
    count = max(24, min(2000, effort * _NUMBERS // one.shape[1]))
    drawn = bench.evaluations(logits, of_unit(privacy, np.array([0, 0, 1, 1])), 2 * count)
    std = noise_of(bench, privacy.evaluation_noise_multiplier) * SENSITIVITY
    found = laws.noise((drawn[::2] - drawn[1::2]) / np.sqrt(2), std, SLACK * std)
    yield from ((name, result) for name, result in found.items() if name != "grid")
    yield "grid", laws.noise(drawn - drawn.mean(axis=0).round(), std, SLACK * std)["grid"]


def evaluation_reach(bench: Bench) -> Found:
    privacy, classes = bench.task.privacy, len(bench.task.schema.classes)
    quiet = bench.changed(evaluation_noise_multiplier=QUIET)
    std = SLACK * noise_of(quiet, QUIET) * SENSITIVITY * np.sqrt(2 / _REPEATS)
    crowd = np.zeros((8, classes), np.float32)
    base = quiet.evaluations(crowd, of_unit(privacy, np.arange(8)), _REPEATS).mean(axis=0)
    last = np.arange(classes) == classes - 1  # every label is the first class
    forms = {
        "sure and right": ~last * 50.0,
        "sure and wrong": last * 50.0,
        "wrong by 1e30": last * 1e30,
        "unsure": last * 0.0,
    }
    for form, row in forms.items():
        for records in (1, 40) if privacy.of_patients else (1,):
            logits = np.concatenate([crowd, np.tile(row, (records, 1))]).astype(np.float32)
            owners = of_unit(privacy, np.minimum(np.arange(len(logits)), 8))
            moved = quiet.evaluations(logits, owners, _REPEATS).mean(axis=0) - base
            name = f"{'40 records' if records > 1 else 'a record'} the model is {form} about moves the sums too far"
            yield name, laws.shift(moved, std, SENSITIVITY)


def held_out(bench: Bench) -> Found:
    """Who is trained on and who is evaluated on: by what the node makes of its records, and by what its graph is asked for."""
    dataset = _numbered(bench, 400)
    for hold_out in {dataset_module.hold_out, vars(opening)["hold_out"]}:
        trained, held = hold_out(dataset, _SHARE, b"a" * 32)
        sides = _names(trained), _names(held)
        used = tuple(set(asked) for asked in bench.sides(trained, held, 4))
        yield "a record is both trained and evaluated on", _certain(not sides[0] & sides[1] and not used[0] & used[1])
        yield "a record is on neither side", _certain(len(sides[0] | sides[1]) == dataset.records)
        yield "the same key splits otherwise", _certain(_names(hold_out(dataset, _SHARE, b"a" * 32)[1]) == sides[1])
        yield "the split is no secret", _certain(_names(hold_out(dataset, _SHARE, b"b" * 32)[1]) != sides[1])
        if dataset.patients is not None:
            whose = [set(dataset.patients[sorted(side)].tolist()) for side in sides]
            yield "a patient is on both sides", _certain(not whose[0] & whose[1])
        yield "a unit's side depends on others", _certain(all(_apart(hold_out, dataset, sides[1])))
        units = [rows[0] in sides[1] for rows in dataset.units(unit_of(bench.task.privacy))]
        yield "held-out share", laws.rate_of(np.array(units), int(_SHARE * 2**32) / 2**32)


def _apart(hold_out: "object", dataset: Dataset, held: Set[int]) -> Iterator[bool]:
    """Whether the rest stays where it is without the k-th unit, for some k."""
    units = dataset.units("record" if dataset.patients is None else "patient")
    for k in range(0, len(units), max(1, len(units) // 12)):
        keep = np.ones(dataset.records, bool)
        keep[units[k]] = False
        rest = hold_out(dataset.take(keep), _SHARE, b"a" * 32)[1]  # type: ignore[operator]
        yield _names(rest) == held - set(units[k].tolist())


def _numbered(bench: Bench, count: int) -> Dataset:
    x = np.zeros((count, int(np.prod(bench.task.schema.input_shape))), np.float32)
    x[:, 0] = np.arange(count)
    patients = of_unit(bench.task.privacy, np.random.default_rng().permutation(np.repeat(np.arange(count), 4)[:count]))
    return Dataset(x.reshape(count, *bench.task.schema.input_shape), np.zeros(count, np.int32), patients)


def _names(dataset: Dataset) -> Set[int]:
    return set(np.rint(dataset.x.reshape(dataset.records, -1)[:, 0]).astype(int).tolist())


def _certain(holds: bool) -> Result:
    return Result(1.0 if holds else 0.0, "as it must be" if holds else "without any chance in it")
