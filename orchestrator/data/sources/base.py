"""What a source of tables is: it knows its files by their first bytes and gives what CSV gives, rows of texts, names first.

Nothing of a file is run: no formula, trigger or extension.
"""

import math
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.errors import DataError
from orchestrator.wire.bounds import near

Row = Tuple[int, List[str]]
"""(number of the row or line in the file, its cells)"""

PART = "#"
"""Between a file and the one of its tables that is meant."""


class RowError(Exception):
    """A row that is no row of a table: (its number, why)."""


class OptionError(Exception):
    """What [source] says and does not fit the task or the data, beginning with the key."""


class Source(NamedTuple):
    """A format of files that hold tables."""

    recognizes: Callable[[bytes], bool]
    """Whether a file that begins with these bytes is of this format; of a text `formats.beginning`."""

    rows: Callable[[Path, str], Iterator[Row]]
    """The rows of the table of that name ("" for the only one), lazily, names first. Raises DataError where the file cannot be
    read, and RowError for an invalid row, after which no more follow. Other exceptions are said of the file."""

    package: str = ""
    """What must be installed to read it; "" for nothing."""


class Service(NamedTuple):
    """A source of tables that is no file of a table: a database, a server, a folder. A description names its kind and options."""

    options: type
    """A frozen dataclass, into which [source] is read; ValueError of its __post_init__ is said of the description."""

    rows: Callable[[Any, Path], Iterator[Row]]
    """The rows that an instance of `options` asks for, lazily, names first; the folder that its paths are relative to. Raises as
    `Source.rows` does."""

    package: str = ""
    """What must be installed for it; "" for nothing."""

    extra: str = ""
    """The extra of this project that installs it."""

    files: Tuple[str, ...] = ()
    """The options that name the file or folder which holds the data: where one of them is given, data change only with that."""

    beside: Tuple[str, ...] = ()
    """Those that name other files whose change may be a change of the data."""

    numbered: Optional[Callable[[Any, Path], Path]] = None
    """What the numbers of its rows count, such as the lines of a file in a folder; None for the rows themselves."""

    several: Optional[Callable[[Any, Path], Iterator[Tuple[int, Row]]]] = None
    """(instances of `options` of one server, the folder) -> (which of them, a row), one table after another, all of one state of
    the data; None for a source that has one table."""


class Windows(NamedTuple):
    """Signals of one length."""

    x: np.ndarray  # (n, samples, channels), in physical units
    labels: Optional[List[str]]  # n; None where there are none
    patients: List[str]  # n, whose they are


class Wanted(NamedTuple):
    """What a task asks of signals. most: as many windows as a node reads."""

    samples: int
    channels: int
    labelled: bool
    most: int


class Signals(NamedTuple):
    """A source of signals, which a description chooses by its kind.

    It is no `Service`: that gives rows of texts one by one, while windows are arrays whose shape the task asks for, and as texts
    they would take many times the memory.
    """

    options: type
    """As of a `Service`."""

    windows: Callable[[Any, Path, Wanted], Windows]
    """The windows that an instance of `options` asks for; the folder that its paths are relative to. Raises as `Service.rows`."""

    package: str = ""
    """What must be installed for it; "" for nothing."""

    extra: str = ""
    """The extra of this project that installs it."""

    files: Tuple[str, ...] = ()
    """As of a `Service`."""

    beside: Tuple[str, ...] = ()
    """As of a `Service`."""


def plain(value: float) -> str:
    """A number as a cell has it: 3, 3.5."""
    value = float(value)  # numpy's have a repr of their own
    return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def text(number: int, name: str, value: Any) -> str:
    """A value as a cell of a CSV file, of column `name` in row `number`; RowError where it is neither number nor text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, (int, str)):
        return str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if type(value).__name__ == "Decimal":
        return str(value)
    raise RowError(
        number,
        f"column {name!r} holds {type(value).__name__}, expected a number or a text: leave the column out, or make it one",
    )


def cells(number: int, names: Sequence[str], values: Sequence[Any]) -> List[str]:
    """The values of row `number` as texts."""
    return [text(number, name, value) for name, value in zip(names, values)]


def chosen(path: Path, part: str, names: Sequence[str], what: str) -> str:
    """The one of `names` that is meant: the one that `part` names, or the only one. what: a word for it, such as "sheet"."""
    listed = ", ".join(sorted(names)[:12]) or "nothing"
    if part:
        if part not in names:
            raise DataError(f"{path}: no {what} {part!r}{near(part, names)}; it has {listed}")
        return part
    if len(names) != 1:
        raise DataError(f"{path}: name the {what} as {path.name}{PART}NAME; it has {listed}")
    return names[0]
