"""What is wrong with a data file, listed for its owner."""

from pathlib import Path
from typing import List, NamedTuple, Optional

from orchestrator.errors import DataError

MOST_PROBLEMS = 20
"""So many problems of a file are listed, unless more are asked for; how many more there are is counted."""


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
