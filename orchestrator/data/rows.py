"""The rows of a table as they are read, and what is wrong with them."""

from array import array
from pathlib import Path
from typing import List, NamedTuple, Optional

import numpy as np

from orchestrator.data.cells import Codes
from orchestrator.errors import DataError

MOST_PROBLEMS = 20
"""So many problems of a file are listed, unless more are asked for; how many more there are is counted."""

UNLABELLED = -1
"""In place of a class, where records without labels are allowed."""


class Row(NamedTuple):
    """values: for each feature its number, or the code of its category. label: as its target reads it. complete: whether no used
    value is missing."""

    values: List[float]
    label: int
    patient: int
    complete: bool
    clamped: bool = False  # whether the label was beyond its range


class Rows:
    """Rows, packed as they are read: a million of them take what their numbers take.

    Rows to leave out are among them: what a row takes may not say whether it is one, since the task names the values that count
    as missing.
    """

    def __init__(self, features: int) -> None:
        self._features = features
        self._values, self._complete = array("d"), array("b")
        self._labels, self._patients, self._lines = array("q"), array("q"), array("q")
        self.codes: List[Optional[Codes]] = []
        """For each feature with categories its codes, None for a number."""
        self.clamped = 0
        """Complete rows whose label was beyond its range."""

    def __len__(self) -> int:
        return len(self._labels)

    def add(self, line: int, row: Row) -> None:
        """line: of the file."""
        self._values.extend(row.values)
        self._labels.append(row.label)
        self._patients.append(row.patient)
        self._complete.append(row.complete)
        self._lines.append(line)
        self.clamped += row.clamped & row.complete

    @property
    def values(self) -> np.ndarray:
        """float64 (rows, features), not to be written to."""
        return np.frombuffer(self._values, np.float64).reshape(len(self), self._features)

    @property
    def labels(self) -> np.ndarray:
        """int64 (rows,)."""
        return np.frombuffer(self._labels, np.int64)

    @property
    def patients(self) -> np.ndarray:
        """int64 (rows,)."""
        return np.frombuffer(self._patients, np.int64)

    @property
    def complete(self) -> np.ndarray:
        """bool (rows,): whether no used value is missing."""
        return np.frombuffer(self._complete, np.bool_)

    @property
    def lines(self) -> np.ndarray:
        """int64 (rows,): the line of the file each row is from."""
        return np.frombuffer(self._lines, np.int64)


class Problem(NamedTuple):
    """place: what follows the file's name, such as ":3". file: where it is not the one that was asked for."""

    place: str
    text: str
    file: Optional[Path] = None


class ProblemsError(DataError):
    """What is wrong with a data file, all of it. first: those that are listed; count: with those that are not."""

    def __init__(self, path: Path, first: List[Problem], count: int) -> None:
        self.first, self.count = first, count
        if count == 1:
            place, text, file = first[0]
            super().__init__(f"{file or path}{place}: {text}")
        else:
            more = f", the first {len(first)}" if count > len(first) else ""
            listed = "\n".join(f"  {(file or path).name}{place}: {text}" for place, text, file in first)
            super().__init__(f"{path}: {count} problems{more}:\n{listed}")


class Problems:
    """What is wrong with a data file; for its owner's eyes, since cells are quoted."""

    def __init__(self, path: Path, most: int = MOST_PROBLEMS) -> None:
        """most: that are listed."""
        self._path, self._most = path, most
        self._first: List[Problem] = []
        self._count = 0

    def add(self, place: str, text: str, file: Optional[Path] = None) -> None:
        """As of a `Problem`."""
        self._count += 1
        if self._count <= self._most:
            self._first.append(Problem(place, text, file))

    @property
    def listed(self) -> bool:
        """Whether one more is listed. What is not costs no time: how many there are would show."""
        return self._count < self._most

    def refuse(self) -> None:
        """Raises ProblemsError if there was one."""
        if self._count:
            raise ProblemsError(self._path, self._first, self._count)
