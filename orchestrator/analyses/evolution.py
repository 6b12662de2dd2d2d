"""Policies found by an evolution strategy (Salimans et al. 2017, arXiv 1703.03864).

In each round the gateway announces weights and pairs of steps, to either side of them. Nodes add up how much more the policy at
one end of each pair is worth than that at the other, for each of their people; the weights then go along the sum of all steps,
each as far as its two ends differ. What a policy decides and what it is worth, a kind of analysis says.
"""

import hashlib
from abc import abstractmethod
from typing import Any, ClassVar, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.base import Analysis, Folded, State, Sums, Total, as_pairs, from_pairs, interval
from orchestrator.analyses.blocks import CELLS, PRODUCTS, Block, aside, places, unused
from orchestrator.wire.bounds import count, within

MOST_NUMBERS = 1 << 16
"""Of all steps of a round."""

FURTHEST = 100.0
"""Of a weight from 0, and of a number of a step."""

HIDDEN = 0.25
"""Share of the number of people from which the interval of noise hides a figure."""


class Worth(NamedTuple):
    """Of some records. Where one is not used, whatever it has."""

    ends: np.ndarray  # float64 (n, 2 pairs): of the policies at the ends of the steps, a pair's within 1 of each other
    measured: np.ndarray  # float64 (n, measures) within -1 to 1: what the result is made of
    used: np.ndarray  # bool (n,): lacks nothing


def objections_to_search(options: Any) -> Iterator[str]:
    """What is wrong with `rounds`, `pairs`, `spread`, `rate` and `start`."""
    yield from count("rounds", options.rounds, 1, 1000)
    yield from count("pairs", options.pairs, 1, 1024)
    yield from within("spread", options.spread, 1e-3, 10.0)
    yield from within("rate", options.rate, 0.0, 1e4)
    for at, weight in enumerate(options.start[: MOST_NUMBERS + 1], 1):
        yield from within(f"start: weight {at}", weight, -FURTHEST, FURTHEST)


class Evolution(Analysis):
    """The vector: of each pair the difference of its ends; what is measured of the policy itself; then 1 if the record is used,
    or left out.

    Announced are the weights and `against`, each as two float32 that add up to it, then the steps.
    """

    measures: ClassVar[int]
    """Values that are measured of the policy itself."""

    spare: int = 0
    """Values of a vector that are 0 once a patient's records are joined."""

    probing = True  # policies on either side of one person's numbers

    unit: float = 1.0
    """What an end of 1 is worth."""

    @property
    @abstractmethod
    def names(self) -> Sequence[Tuple[str, ...]]:
        """Of each weight, as its table has them."""

    @property
    @abstractmethod
    def read(self) -> Tuple[str, ...]:
        """The columns that vectors are made of."""

    @abstractmethod
    def worth(self, policies: np.ndarray, against: float, x: np.ndarray) -> Worth:
        """policies: float64 (2 pairs + 1, weights), one end of all pairs, then the other, then the policy itself. against: what a
        worth is compared with, within 0 to 1. x: as of `Analysis.vectors`.
        """

    def compared_with(self, measured: np.ndarray, people: float, noise: float) -> float:
        """`against` of the next round, from sums over so many people with noise of that deviation on each."""
        return 0.0

    @abstractmethod
    def reached(self, measured: np.ndarray, people: float, noise: float) -> Optional[float]:
        """What the policy is worth, for people who watch the run; None where noise hides it."""

    def objections(self) -> Iterator[str]:
        """Steps must fit into a message, and a start have a number for each weight."""
        options = self.options
        if len(self.names) * options.pairs > MOST_NUMBERS:
            yield f"pairs: {options.pairs} of {len(self.names)} weights each, at most {MOST_NUMBERS} numbers in all"
        if options.start and len(options.start) != len(self.names):
            yield f"start: {len(options.start)} weights, the policy has {len(self.names)}"

    @property
    def rounds(self) -> int:
        """As declared."""
        return int(self.options.rounds)

    @property
    def sums(self) -> Sums:
        """Every difference and every measure may be 1; a record is used or left out."""
        pairs = self.options.pairs
        return Sums(pairs + self.spare + self.measures + 2, float(np.sqrt(pairs + self.measures + 1)))

    def begin(self, seed: int) -> np.ndarray:
        """The first weights and steps."""
        start = np.array(self.options.start or np.zeros(len(self.names)), np.float64)
        return self._announced(start, 0.0, str(seed).encode())

    def _announced(self, weights: np.ndarray, against: float, entropy: bytes) -> np.ndarray:
        """Steps are drawn by the gateway alone: generators of other versions of NumPy draw others."""
        seed = int.from_bytes(hashlib.sha256(entropy).digest(), "little")
        steps = np.random.default_rng(seed).standard_normal((self.options.pairs, len(weights)))
        return np.concatenate([as_pairs(np.append(weights, against)), steps.astype(np.float32).ravel()])

    def question(self, asked: np.ndarray) -> np.ndarray:
        """Weights, steps, and what is compared with, all within what they may be."""
        weights = len(self.names)
        exact = from_pairs(asked[: 2 * weights + 2])
        found = np.concatenate([exact[:-1], asked[2 * weights + 2 :].astype(np.float64)])
        return np.append(np.clip(found, -FURTHEST, FURTHEST), np.clip(exact[-1], 0.0, 1.0))

    def scope(self, question: np.ndarray) -> np.ndarray:
        """The weights: what is measured of them is there whatever the steps, and a pair may be written either way round."""
        return question[: len(self.names)]

    def policies(self, question: np.ndarray) -> np.ndarray:
        """float64 (2 pairs + 1, weights), in the order of `worth`."""
        weights = question[: len(self.names)]
        steps = self.options.spread * question[len(self.names) : -1].reshape(self.options.pairs, -1)
        return np.concatenate([weights + steps, weights - steps, weights[np.newaxis]])

    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """See the class."""
        worth, pairs = self.worth(self.policies(question), float(question[-1]), x), self.options.pairs
        return self.assembled(worth.ends[:, :pairs] - worth.ends[:, pairs:], worth.measured, worth.used)

    def assembled(self, differences: np.ndarray, measured: np.ndarray, used: np.ndarray) -> np.ndarray:
        """float64 (n, size)."""
        found = np.zeros((len(used), self.sums.size))
        pairs, end = self.options.pairs, self.sums.size - 2
        found[:, :pairs] = np.clip(differences, -1.0, 1.0)
        found[:, end - self.measures : end] = np.clip(measured, -1.0, 1.0)
        found[~used] = 0.0
        found[:, end], found[:, end + 1] = used, ~used
        return found

    def blocks(self, question: np.ndarray) -> List[Block]:
        """All but the counts is of the policy."""
        pairs, end = self.options.pairs, self.sums.size - 2
        of_policy = np.concatenate([np.arange(pairs), np.arange(end - self.measures, end)])
        return [
            # An owner asks for so many people for each number that leaves, if that is more than there are weights.
            Block(
                "what policies are worth",
                PRODUCTS,
                of_policy,
                self.read,
                parameters=max(len(self.names), of_policy.size),
            ),
            *unused(pairs, pairs + self.spare),
            Block("records used", CELLS, places(end, 1)),
            aside("left out", end + 1),
        ]

    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """The weights move, unless noise hides how many people there are."""
        options, question = self.options, self.question(asked)
        weights, people = question[: len(self.names)], float(total.values[-2])
        steps = question[len(self.names) : -1].reshape(options.pairs, -1)
        measured = total.values[-2 - self.measures : -2]
        state: State = {"weights": weights, "total": total.values, "deviation": np.array([total.deviation])}
        figures: Dict[str, float] = {}
        moved, against = weights, float(question[-1])
        if people > max(0.0, interval(total.deviation)):
            slope = self.unit * total.values[: options.pairs] @ steps / (2 * options.spread * options.pairs * people)
            moved = np.clip(weights + options.rate * slope, -FURTHEST, FURTHEST)
            against = self.compared_with(measured, people, total.deviation)
            reached = self.reached(measured, people, total.deviation)
            if reached is not None:
                figures["reached"] = reached
        return self._announced(moved, against, asked.tobytes()), Folded(state, figures)
