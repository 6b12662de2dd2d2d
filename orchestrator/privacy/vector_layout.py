"""How what a node sends becomes one vector of whole numbers that can be summed in secret, and how the sum is read.

A vector is made of parts. A *noisy* part is a private sum in grid steps (privacy/noisy_sum.py) and is added up as it is. A *mean*
part is a mean over a node's records: it travels as weight * mean, cut to its range and rounded at random so that the sum
is right in expectation, and the weight travels masked beside it. Values are scaled so that the sum cannot wrap around. An *exact*
part is a sum in fixed point, cut into digits that are added up each by itself: nothing is rounded but what float64 rounds.
"""

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from orchestrator.errors import PrivacyError
from orchestrator.privacy.noisy_sum import TALLY, analysis_sum, evaluation_counts, statistics_sum, training_sum
from orchestrator.privacy.releases import kinds_in
from orchestrator.rounds.stages import ANALYSIS, EVALUATION, STATISTICS, TRAINING
from orchestrator.wire.task import Task

BITS = (16, 24, 32)
UPDATE = "update"
"""Name of the part that a stage of training has; others have the name of their stage."""

_NOISE_STDS = 12
"""Room for noise, in standard deviations of the sum: beyond it with a probability below 1e-32."""

_MEAN_BITS = 16
_DIGITS = 5
_DIGIT = 256
"""A weight travels as base-256 digits, each in a value of its own; the number of values that were cut likewise."""

_LIMB_BITS, LIMBS, _POINT = 16, 6, 60
"""Of an exact part: bits of a digit, digits of a value, and how many binary places of it are behind the point."""
_MOST_EXACT = 2.0**34
"""Magnitude of a node's exact sum. Sums of all nodes have room below twice as much: 500 nodes of as many rows as one reads."""

_SPARE_VALUES = 64  # masked vectors carry their weights, and what was cut, beside the values


@dataclass(frozen=True)
class Part:
    """size: values. unit: what one step of a noisy part is worth. per_unit: steps one privacy unit (record, patient, node)
    moves a value by at most, in expectation of its sampling. std: of one node's noise, in steps. reach: of a mean part, beyond
    which values are cut. times: how many units and records it is over for each that is trained on, at most. exact: a sum without
    noise, as it is. spare: units that a node may have beyond those it states, of sums whose size they are."""

    name: str
    size: int
    noisy: bool
    unit: float = 0.0
    per_unit: float = 0.0
    std: int = 0
    reach: float = 0.0
    times: int = 1
    exact: bool = False
    spare: int = 0

    @property
    def length(self) -> int:
        if self.exact:
            return self.size * LIMBS
        return self.size if self.noisy else self.size + 2 * _DIGITS


class Summed(NamedTuple):
    """A part of an opened sum. values: float64 (size,), the total of a noisy or exact part, or the weighted mean. weight: total
    of the weights of a mean part. cut: how many values of single nodes were beyond the range."""

    values: np.ndarray
    weight: int
    cut: int


def parts_of(task: Task, number: int, parameters: int) -> List[Part]:
    """The parts of a node's vector in a round. `parameters`: of the update, without personal parts."""
    return [part for kind in kinds_in(task, number) for part in _PARTS[kind](task, parameters)]


def _statistics(task: Task, parameters: int) -> List[Part]:
    numbers = 2 * len(task.schema.numbers())
    if not task.privacy.on:
        return [Part(STATISTICS, numbers, False, reach=1.0)]
    released = statistics_sum(task)
    return [Part(STATISTICS, numbers, True, released.lattice.step, released.lattice.bound, released.std)]


def _update(task: Task, parameters: int) -> List[Part]:
    privacy = task.privacy
    if privacy.distributed:
        released = training_sum(task, parameters)
        lattice = released.lattice
        sampled = min(1.0, 2 * privacy.sampling_rate) if privacy.within_node else 1.0
        part = Part(UPDATE, parameters, True, lattice.step, lattice.bound * sampled, released.std)
    else:
        part = Part(UPDATE, parameters, False, reach=task.aggregation.update_range)
    return [part, *_tally(task, parameters)]


def _evaluation(task: Task, parameters: int) -> List[Part]:
    share = task.evaluation.share
    times = 1 + math.ceil(2 * share / (1 - share))  # which records are held out is drawn, so twice what is expected
    if not task.privacy.on:
        size = task.schema.learned.size(task.evaluation.bins)
        return [Part(EVALUATION, size, False, reach=1.0, times=times)]
    counts = evaluation_counts(task)
    return [Part(EVALUATION, counts.size, True, 1.0 / counts.scale, counts.scale, counts.std, times=times)]


def _analysis(task: Task, parameters: int) -> List[Part]:
    if not task.privacy.on:
        return [Part(ANALYSIS, task.training.parameters, False, exact=True)]
    released, spare = analysis_sum(task), task.privacy.most_units(0)
    return [
        Part(ANALYSIS, released.size, True, released.lattice.step, released.lattice.bound, released.std, spare=spare)
    ]


_PARTS: Dict[str, Callable[[Task, int], List[Part]]] = {
    STATISTICS: _statistics,
    TRAINING: _update,
    EVALUATION: _evaluation,
    ANALYSIS: _analysis,
}
"""Kind of a release -> the parts it is in a vector."""


def _tally(task: Task, parameters: int) -> List[Part]:
    """Of clipped units, beside the training sums of a round, where the task has one."""
    privacy = task.privacy
    if not (privacy.clip_tally and privacy.within_node):
        return []
    beside = training_sum(task, parameters + task.training.personal_parameters)
    steps = task.training.local_steps
    std = math.ceil(beside.std * math.sqrt(steps))
    sampled = min(1.0, 2 * privacy.sampling_rate) * steps
    return [Part(TALLY, 1, True, 1 / beside.beside, beside.beside * sampled, std)]


def bits_for(parts: Sequence[Part], units: int, parties: int, fixed: int = 0) -> int:
    """Bits of a value with which sums over `parties` nodes holding `units` privacy units together do not wrap around.

    `fixed`: the bits a task declares; PrivacyError when they are too few. Where even 32 are too few for every unit at its worst,
    a node's sum is cut (`Layout.limit`), which does not change what one unit can do to it.
    """
    needed = _MEAN_BITS
    for part in parts:
        if part.noisy:
            most = part.per_unit * _most_units(part, units, parties) + _room(part, parties)
            needed = max(needed, math.ceil(math.log2(most + 1)) + 1)
        elif part.exact:
            exact = (parties << _LIMB_BITS).bit_length() + 1
            if exact > BITS[-1]:  # nothing of it can be cut: every digit counts
                raise PrivacyError(f"{parties} nodes are too many for an exact sum: use fewer, or noise")
            needed = max(needed, exact)
        elif parties * (_DIGIT - 1) >= 1 << (_MEAN_BITS - 1):
            needed = max(needed, 24)
    chosen = next((bits for bits in BITS if bits >= needed), BITS[-1])
    if fixed and fixed < chosen:
        raise PrivacyError(
            f"aggregation.bits {fixed} is too few for {parties} nodes with {units} units: {chosen} are needed"
        )
    return fixed or chosen


def _most_units(part: Part, units: int, parties: int) -> int:
    return part.times * max(units, parties) + part.spare * parties


def _room(part: Part, parties: int) -> float:
    return _NOISE_STDS * part.std * math.sqrt(parties) + parties


class Layout:
    """The vector of one session: its parts, in a ring of 2^bits, for `parties` nodes of `units` privacy units, `weight` records.

    Every party of a session, and the gateway, must build it from the same numbers.
    """

    def __init__(self, parts: Sequence[Part], bits: int, parties: int, units: int, weight: int) -> None:
        if not BITS[0] <= bits <= BITS[-1] or min(parties, units, weight) < 1:
            raise PrivacyError(
                f"a vector of {bits} bits for {parties} nodes, {units} units, {weight} records makes no sense"
            )
        if max(units, weight) >= _DIGIT**_DIGITS or parties >= 1 << (bits - 2):
            raise PrivacyError(
                f"a vector of {bits} bits has no room for {parties} nodes, {units} units, {weight} records"
            )
        self.parts, self.bits = list(parts), bits
        self._parties, self._units, self._weight = parties, units, weight
        self._half = (1 << (bits - 1)) - 1
        self.size = sum(part.length for part in parts)

    @property
    def form(self) -> Tuple[int, ...]:
        """The numbers it was made from."""
        return self.bits, self._parties, self._units, self._weight

    @property
    def bound(self) -> int:
        """The largest magnitude of a sum that does not wrap around, and so of a vector."""
        return self._half

    def limit(self, part: Part, units: int) -> int:
        """The largest magnitude, in steps, of a noisy part's sum over `units` units before its noise."""
        most = max(1, units) + part.spare
        wanted = part.per_unit * most
        share = (self._half - _room(part, self._parties)) * most / _most_units(part, self._units, self._parties)
        if share < min(1, wanted):
            raise PrivacyError(f"{self.bits} bits leave no room for {part.name!r} beside its noise of {part.std} steps")
        return min(math.ceil(wanted), math.floor(share) + 1)  # the room has a step for each party

    def encode(
        self, values: Mapping[str, np.ndarray], weights: Mapping[str, int], random: np.random.Generator
    ) -> np.ndarray:
        """int32 or int64 (size,): steps of noisy parts as they are, exact sums in digits, means (float) times their weight.

        Means fit 32 bits, as no ring is larger. They are worked on in place: fresh memory costs more than the arithmetic.
        """
        total = np.empty(self.size, np.int64 if any(part.noisy for part in self.parts) else np.int32)
        end = 0
        for part in self.parts:
            start, end = end, end + part.length
            vector = values[part.name]
            if vector.shape != (part.size,):
                raise PrivacyError(f"{part.name!r} has the shape {vector.shape}, expected ({part.size},)")
            if part.noisy:
                total[start:end] = vector
                continue
            if not np.isfinite(vector).all():
                raise PrivacyError(f"{part.name!r} holds values that are not finite numbers")
            if part.exact:
                total[start:end] = _limbs(vector)
                continue
            weight, most = weights[part.name], part.times * self._weight
            if not 0 <= weight <= most:
                raise PrivacyError(f"{part.name!r} has the weight {weight}, all nodes together have at most {most}")
            exact = np.float32 if self.bits == 16 else np.float64  # enough for rounding at random, and much faster
            scaled: Any = vector.astype(exact)
            cut = int(np.count_nonzero(scaled > exact(part.reach)) + np.count_nonzero(scaled < -exact(part.reach)))
            np.clip(scaled, -part.reach, part.reach, out=scaled)
            scaled *= exact(weight / (part.reach * most) * self._top())
            scaled += random.random(part.size, scaled.dtype)
            total[start : start + part.size] = np.floor(scaled, out=scaled)
            total[start + part.size : end] = [*_digits(weight), *_digits(cut)]
        return total

    def decode(self, total: np.ndarray) -> Dict[str, Summed]:
        """Part name -> what the opened sum, int64 (size,), says of it."""
        result: Dict[str, Summed] = {}
        start = 0
        for part in self.parts:
            vector = total[start : start + part.length]
            start += part.length
            if part.noisy:
                result[part.name] = Summed(vector * part.unit, 0, 0)
                continue
            if part.exact:
                if (vector < 0).any() or (
                    vector >= self._parties << _LIMB_BITS
                ).any():  # so no mask was left on the sum
                    raise PrivacyError(
                        f"the sum of {part.name!r} has digits that no {self._parties} nodes can have sent"
                    )
                result[part.name] = Summed(_from_limbs(vector), 0, 0)
                continue
            weight, cut = _number(vector[part.size : part.size + _DIGITS]), _number(vector[part.size + _DIGITS :])
            most = part.times * self._weight
            if not (1 <= weight <= most and 0 <= cut <= self._parties * part.size):  # so no mask was left on the sum
                raise PrivacyError(f"the sum of {part.name!r} is over {weight} records, all nodes together have {most}")
            values = vector[: part.size] * (part.reach * most / (self._top() * weight))
            result[part.name] = Summed(values, weight, cut)
        return result

    def _top(self) -> int:
        """The largest magnitude a sum of means may have, a step of rounding for every party left out."""
        return self._half - self._parties


def _limbs(values: np.ndarray) -> np.ndarray:
    """int64 (n * LIMBS,): each value in fixed point, in two's complement."""
    if not (np.abs(values) <= _MOST_EXACT).all():
        raise PrivacyError(f"an exact sum with a value beyond {_MOST_EXACT:g}")
    whole = [round(float(value) * 2.0**_POINT) % (1 << (_LIMB_BITS * LIMBS)) for value in values]
    content = b"".join(number.to_bytes(LIMBS * _LIMB_BITS // 8, "little") for number in whole)
    return np.frombuffer(content, "<u2").astype(np.int64)


def _from_limbs(summed: np.ndarray) -> np.ndarray:
    """float64 (n,): what the sums of limbs come to."""
    bits = _LIMB_BITS * LIMBS
    totals = []
    for limbs in summed.reshape(-1, LIMBS).tolist():
        total = sum(limb << (_LIMB_BITS * place) for place, limb in enumerate(limbs)) % (1 << bits)
        totals.append((total - (1 << bits) if total >> (bits - 1) else total) / (1 << _POINT))
    return np.array(totals, np.float64)


def _digits(number: int) -> List[int]:
    return [(number // _DIGIT**i) % _DIGIT for i in range(_DIGITS)]


def _number(digits: np.ndarray) -> int:
    return int(sum(int(digit) * _DIGIT**i for i, digit in enumerate(digits)))


def most_values(task: Task, parameters: int) -> int:
    """Numbers in a node's answer to any round of a model, or a state, of so many numbers, at most."""
    if not task.trains:  # alone they travel as float64, in a sum in digits
        return parameters * LIMBS + _SPARE_VALUES
    counts = task.schema.learned.size(task.evaluation.bins) if task.evaluation.on else 0
    return max(parameters, 2 * len(task.schema.numbers())) + counts + _SPARE_VALUES
