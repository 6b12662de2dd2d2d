"""The shape of an analysis: a few rounds, each one sum of bounded vectors, one vector for each privacy unit.

An analysis is pure: gateway, nodes and tests use the same object. It neither clips nor draws noise nor sends; what it declares in
`Sums` is what accountant, grid, ledger and secure sums are made of, and what nodes enforce.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Callable, ClassVar, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from orchestrator.analyses.blocks import Block
from orchestrator.analyses.scored_model import Scoring
from orchestrator.wire.schema import Schema

Cell = Union[str, int, float, None]
State = Dict[str, np.ndarray]

CERTAINTY = 1.96
"""Standard deviations on either side of a figure in which 95 of 100 draws of Gaussian noise leave it."""

MOST_VALUES = 1 << 16
"""In the vector of one unit."""

MOST_REASONS = 20
"""Of what is wrong with a declaration: nodes look at a gateway's before anything else speaks against it."""


class Sums(NamedTuple):
    """What a node gives away in each round: a sum of vectors."""

    size: int  # values of a vector, each within -1 to 1
    bound: float  # the longest vector of one record, in the L2 norm; a patient's is the mean of its records'


class Total(NamedTuple):
    """What a round's answers come to."""

    values: np.ndarray  # float64 (size,)
    deviation: float = 0.0  # standard deviation of the noise on each value; 0: they are exact


class Table(NamedTuple):
    """A result for people and for other programs. `bars`: the column a picture shows, by the first one; "" for none."""

    name: str  # also that of its file
    columns: Tuple[str, ...]
    rows: List[Tuple[Cell, ...]]
    bars: str = ""


class Folded(NamedTuple):
    """What the gateway makes of a round: what it keeps, figures of the round, and whether no further one is needed."""

    state: State  # by name, beside what rounds before kept by other names
    figures: Dict[str, float]
    done: bool = False


@dataclass(frozen=True)
class Result:
    """What a run comes to."""

    tables: List[Table]
    notes: List[str] = field(default_factory=list)  # what people must know who read the tables


class Analysis(ABC):
    """One kind, over the columns of one schema."""

    Options: ClassVar[Any]
    """The dataclass of what `[task.analysis]` may say besides `kind`."""

    later: ClassVar[Tuple[str, ...]] = ()
    """Options that earlier versions did not have, as "model.outputs" of a table among them. A task says nothing of one at its
    default, so that approvals still hold.
    """

    of_signals: ClassVar[bool] = False
    """Whether it takes signals, too, of which it sees label and score alone (analyses/signals.py)."""

    in_steps: ClassVar[bool] = False
    """Whether its cells are steps in a row, of which published ones with few records count together with those after them."""

    probing: ClassVar[bool] = False
    """Whether a gateway may announce numbers of which two sums, each over everybody, differ in one person alone."""

    def __init__(self, schema: Schema, options: Any) -> None:
        """Raises ValueError, a line for each reason, where the schema does not have what the options name."""
        self.schema, self.options = schema, options
        wrong = list(islice(self.objections(), MOST_REASONS))
        if not wrong and not 1 <= self.sums.size <= MOST_VALUES:
            wrong = [f"kind: its sums have {self.sums.size} values, at most {MOST_VALUES}: name fewer columns"]
        if wrong:
            raise ValueError("\n".join(wrong))

    @classmethod
    def over(cls, schema: Schema, options: Any) -> "Analysis":
        """What these options declare, of another class where they ask for other sums; ValueError as of the constructor."""
        return cls(schema, options)

    def objections(self) -> Iterator[str]:
        """Why these options cannot be computed over this schema."""
        return iter(())

    def objection_to(self, noisy: bool) -> str:
        """Why it makes no sense over sums with noise, or without; "" where it does."""
        return ""

    def without_noise(self) -> "Analysis":
        """The same over sums without noise: what is bounded so that noise stays small may be as large as records have it."""
        return self

    @property
    def scored(self) -> Optional[Scoring]:
        """The model file by which records are scored: `vectors` then get each record's score behind its inputs, NaN where it
        has none. None: there is no such file.
        """
        return None

    @property
    @abstractmethod
    def rounds(self) -> int:
        """How many there are at most."""

    @property
    @abstractmethod
    def sums(self) -> Sums:
        """The same in every round: known before anything is computed."""

    @abstractmethod
    def begin(self, seed: int) -> np.ndarray:
        """float32 (asked,): what is announced to nodes with the first round; one value at least."""

    def question(self, asked: np.ndarray) -> np.ndarray:
        """float64, finite: all that vectors depend on of what was announced, in one way of writing it; here nothing.

        By it nodes see when they are asked for a sum again: over other nodes, the difference would show what single ones sent.
        """
        return np.zeros(0)

    def scope(self, question: np.ndarray) -> np.ndarray:
        """float64: the part of a question by which nodes see that they are asked again, and so keep to one set of nodes without
        noise: what questions have in common whose sums, over different nodes, must not be subtracted. All of it here; less where
        answers to two questions may differ by single records.
        """
        return question

    def of_patients(self, question: np.ndarray) -> bool:
        """Whether sums are over patients also where privacy is of records, or none: the schema names them then."""
        return False

    def joined(self, question: np.ndarray, summed: np.ndarray, records: int) -> np.ndarray:
        """float64 (size,): a patient's vector, of the sum of its records' vectors; here their mean."""
        return summed / records

    @abstractmethod
    def vectors(self, question: np.ndarray, x: np.ndarray) -> np.ndarray:
        """float64 (n, size): each record's vector. x: float64 (n, inputs) as in `Dataset.x`, not standardized: NaN for a number
        that is missing, zeros for a category that is; question: of what the gateway announced.
        """

    def over_others(self, asked: np.ndarray) -> np.ndarray:
        """float32 (asked,): what was announced, where the sums it brings are over other nodes than those before: without what
        only sums over the same nodes can be compared with.
        """
        return asked

    @abstractmethod
    def blocks(self, question: np.ndarray) -> List[Block]:
        """What the values of a vector are: by it a node's owner says what may not be learned of single people (node/guard.py)."""

    @abstractmethod
    def fold(self, asked: np.ndarray, total: Total) -> Tuple[np.ndarray, Folded]:
        """(what is announced with the next round, what is kept) once a round's total is known."""

    @abstractmethod
    def result(self, state: State, units: str) -> Result:
        """The tables, from what the last round left. units: what is counted, "records" or "patients"."""

    @abstractmethod
    def words(self, quoted: Callable[[str], str]) -> List[str]:
        """What it computes, a line each, for owners who decide on it; `quoted` makes names of others safe to read."""


def in_unit_range(x: np.ndarray, schema: Schema) -> np.ndarray:
    """float64 (n, numbers) in [-1, 1] over the public ranges, NaN where missing, from x as of `Analysis.vectors`."""
    numbers = schema.numbers()
    low = np.array([feature.scaled_range[0] for _, feature in numbers])
    high = np.array([feature.scaled_range[1] for _, feature in numbers])
    found = 2.0 * (x[:, [column for column, _ in numbers]].astype(np.float64) - low) / (high - low) - 1.0
    return np.clip(found, -1.0, 1.0)


def other_than_zero(coefficients: np.ndarray) -> np.ndarray:
    """float64, in order of size: at 0 a column is as good as not there, and the order of columns makes no other sum."""
    return np.sort(coefficients[coefficients != 0])


def as_pairs(values: np.ndarray) -> np.ndarray:
    """float32 (2 n,): values (n,) as two numbers each that add up to them, in 48 bits."""
    high = values.astype(np.float32)
    return np.concatenate([high.ravel(), (values - high).astype(np.float32).ravel()])


def from_pairs(asked: np.ndarray) -> np.ndarray:
    """float64 (n,): what `as_pairs` was given."""
    return np.asarray(asked.astype(np.float64).reshape(2, -1).sum(axis=0))


def interval(deviation: float) -> float:
    """Half the width of the interval of 95 % that noise of this standard deviation leaves."""
    return CERTAINTY * deviation
