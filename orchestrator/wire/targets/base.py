"""The shape of a target: what a task learns of each record, as a whole number, and how good what a model says of it is.

The number (a record's *code*) is what training graphs and private sums are given, so all kinds have one shape: int32 y (n,). What
a code means, a target's file says alone. The other half, the loss over these codes, is in model_export/losses.py.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

Figures = Dict[str, Any]
Quoted = Callable[[str], str]

LOSS = "loss"
FINE = 1 << 16
"""Steps for 1 of sums with fractions: rounding them down is then less than what a float32 leaves."""


@dataclass(frozen=True)
class NoOptions:
    """Of a kind that its columns say all of."""


class Target(ABC):
    """One kind, over one schema."""

    kind: ClassVar[str]
    Options: ClassVar[Any] = NoOptions
    """The dataclass of what `[task.schema.target]` may say besides `kind`."""
    metrics: ClassVar[Tuple[str, ...]] = (LOSS,)
    """Figures that `best` and `patience` may go by."""
    ending: ClassVar[str] = "linear"
    """What is appended to the model for a board: "softmax", "sigmoid", or "linear" for nothing."""
    scored: ClassVar[bool] = False
    """Whether the model gives back its input, and a bundle has a threshold for how far it is off."""
    fine: ClassVar[int] = FINE
    """Least number of steps for 1 in private evaluation sums."""

    def __init__(self, schema: Any, options: Any) -> None:
        self.schema, self.options = schema, options

    def objections(self) -> Iterator[str]:
        """Why these options make no sense with this schema."""
        return iter(())

    @property
    def columns(self) -> Tuple[str, ...]:
        """Columns (or arrays) of a data file that say what is to be learned."""
        return (self.schema.label,)

    @property
    def limits(self) -> Optional[Tuple[float, float]]:
        """The range values of the first column are clamped to; None where none are."""
        return None

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Values a model gives for a record."""

    @property
    def names(self) -> Tuple[str, ...]:
        """Of the outputs, where each stands for something that has one."""
        return ()

    @property
    @abstractmethod
    def loss(self) -> Dict[str, Any]:
        """What is minimized, for model_export/losses.py."""

    @property
    @abstractmethod
    def steepness(self) -> float:
        """How long the loss's gradient by the outputs is at first, about."""

    def codes(self, read: np.ndarray) -> np.ndarray:
        """int64 (n,) of what was read of each record; below 0 for those without a label, as they are."""
        return read

    @abstractmethod
    def invented(self, draw: np.random.Generator) -> List[str]:
        """Cells of an invented record, one for each of `columns`."""

    @abstractmethod
    def words(self, quoted: Quoted) -> str:
        """What a model of it does, after "predicts" or on its own, for owners and pages."""

    # What a model says, and how good that is

    @abstractmethod
    def answers(self, outputs: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """What float64 outputs (n, outputs) of the training graph say of records, in bounds that hold for any.

        y: codes (n,); x: standardized records float32 (n, *input_shape), for a target that is about them.

        A record whose outputs are not all finite counts as surely wrong.
        """

    @abstractmethod
    def exported_answers(self, values: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The same of what the exported model gave, float64 (n, outputs), for inputs x as it saw them."""

    @abstractmethod
    def size(self, bins: int) -> int:
        """Numbers in an evaluation's sums: cells of 0 or more, of which a record adds 1 in all, and one value of 0 to 1."""

    @abstractmethod
    def count(self, y: np.ndarray, answers: np.ndarray, bins: int) -> np.ndarray:
        """float64 (size,): the sums over records."""

    @abstractmethod
    def said(self, values: np.ndarray) -> Dict[str, Any]:
        """What the exported model says of one record, float64 (outputs,), by name and in the units of the data."""

    @abstractmethod
    def summary(self, values: np.ndarray) -> Dict[str, Any]:
        """What the exported model says of many records, float (n, outputs), in a few figures by name."""

    @abstractmethod
    def label(self, code: int) -> Any:
        """What a code stands for, in the units of the data."""


class Declared(Target):
    """One that `[task.schema.target]` declares: its columns hold numbers, and it makes its own figures.

    The labels of classes are texts, with codes in `label_values`; their figures are those of gateway/scores.py.
    """

    @property
    def exported(self) -> Dict[str, Any]:
        """How the model for a board ends: {ending}, and {scale, offset} where its output is multiplied and shifted."""
        return {"ending": self.ending}

    @property
    @abstractmethod
    def exported_words(self) -> str:
        """What the numbers of that model's output are."""

    @abstractmethod
    def code(self, values: Sequence[float]) -> int:
        """Of a record, 0 or more, from one finite number for each of `columns`. ValueError for what is not a label."""

    def read(self, values: Sequence[float]) -> int:
        """What reading keeps of a record, 0 or more, from which `codes` makes its code. ValueError as of `code`.

        It takes the same whatever the number is: a gateway chooses the range, and times the answer.
        """
        return self.code(values)

    @abstractmethod
    def of_rows(self, y: np.ndarray, answers: np.ndarray) -> Figures:
        """{records, loss, ..., intervals, warning} of rows one by one."""

    @abstractmethod
    def of_sums(self, sums: np.ndarray, bins: int, noise: float) -> Figures:
        """The same of sums (size,), each of which has noise of this standard deviation; then with {noise, too_noisy}."""
