"""Answers that leave at fixed times after their request, so that how long they took tells nobody how much was computed.

A round's computation takes as long as the Poisson sample it drew is large, and the size of the sample is part of what the privacy
claim hides. So an answer waits for the next multiple of a quantum that is known before the round: made of public numbers and of
rows of random numbers, and long enough that the first multiple is nearly always met.
"""

import math
import time
from typing import Callable, List, NamedTuple, Optional

SLACK = 2.0
"""Of the quantum over what an expected sample takes: room for clipping, noise, encoding, and a busy machine."""

FLOOR_S = 0.05

TRIES, TRIED_S = 3, 0.5
"""Work is tried on made-up numbers so often, or for so many seconds. The best time counts: one busy moment is not a pace."""


class Work(NamedTuple):
    """Seconds of work beside the graph's. fixed_s: whatever the sample, such as drawing noise. unit_s: for each unit in it."""

    fixed_s: float
    unit_s: float


def tried(fixed: Callable[[], object], each: Callable[[int], object], units: int) -> Work:
    """What `fixed` takes here, and `each` for one of so many made-up units: figures that no data have a part in."""
    return Work(_best(fixed), _best(lambda: each(units)) / units)


def _best(work: Callable[[], object]) -> float:
    took: List[float] = []
    while len(took) < TRIES and sum(took) < TRIED_S:
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def quantum_s(
    seconds_per_record: float,
    units: int,
    sampling_rate: float,
    steps: int = 1,
    records_per_unit: float = 1.0,
    other_s: float = 0.0,
    unit_s: float = 0.0,
) -> float:
    """Seconds a round's answer waits for, at least: for an upper bound of its samples, times SLACK.

    seconds_per_record: on rows of random numbers (TrainingGraph.record_seconds). units: the most a node can have that states what
    this one states (Privacy.most_units), not the real number. The bound is 6 deviations over the expected size of `steps`
    Poisson samples: fewer than one round in a hundred million needs more. records_per_unit: of a patient, at most; a figure of
    the task or the owner, not of the data. unit_s: of clipping and rounding a unit's part. other_s: of work that is the same in
    every round, such as drawing noise, or evaluating on held-out records, from stated counts as well.
    """
    expected = steps * sampling_rate * units
    most = min(expected + 6 * math.sqrt(expected * (1 - sampling_rate)) + 6, float(steps * units))
    return max(FLOOR_S, SLACK * ((seconds_per_record * records_per_unit + unit_s) * most + other_s))


def most_held_out(units: int, share: float) -> float:
    """Of how many units are held out at most where `units` are trained on: 6 standard deviations over what is expected."""
    odds = share / (1 - share)
    expected = units * odds
    return expected + 6 * math.sqrt(expected * (1 + odds)) + 6


class Pace:
    """When an answer may leave. One for each request that is answered."""

    def __init__(
        self, quantum: float, begun: Optional[float] = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """quantum: seconds, 0 for a round that runs no graph: it is not held up. begun: when the request came; None: now."""
        self._quantum, self._clock = quantum, clock
        self._begun = clock() if begun is None else begun

    def wait_s(self) -> float:
        """Seconds from now to the next multiple of the quantum since the request came; 0 on a multiple, or without a quantum."""
        if self._quantum <= 0:
            return 0.0
        elapsed = self._clock() - self._begun
        return max(1, math.ceil(elapsed / self._quantum)) * self._quantum - elapsed

    def hold(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Sleeps until then; an agent that has messages to read meanwhile keeps the answer for `wait_s` instead."""
        left = self.wait_s()
        if left > 0:
            sleep(left)
