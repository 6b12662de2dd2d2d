"""The rules by which a table is made anonymous: a TOML file of its owner. docs/data.md shows every key."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from orchestrator.data.cells import canonical
from orchestrator.errors import DataError, UsageError
from orchestrator.wire.bounds import count, one_of, refuse, within
from orchestrator.wire.structure import structure
from orchestrator.wire.toml_file import read_toml

DIVERSITIES, MODES = ("distinct", "entropy"), ("strict", "relaxed")


@dataclass(frozen=True)
class Quasi:
    """`[quasi.NAME]`: a column by which people outside can know somebody again. Its domain is public, never read off the rows."""

    minimum: float = math.nan  # of a number: least value there can be
    maximum: float = math.nan  # and the largest
    # the only values at which a number is cut, and between which it is written: of all hospitals the same, so that none is known
    # by its own. Without, a class is written from its least to its largest number [rising numbers]
    cuts: Tuple[float, ...] = ()
    levels: Tuple[str, ...] = ()  # of a category: its values, in an order in which neighbours are alike [texts]
    # of a category: a CSV file, each line a value and what it belongs to, up to the root [text, beside this file]
    hierarchy: str = ""

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[str]:
        number = not (math.isnan(self.minimum) and math.isnan(self.maximum))
        if sum((number, bool(self.levels), bool(self.hierarchy))) != 1:
            yield "either minimum and maximum (a number), or levels, or hierarchy"
        elif number and not self.minimum < self.maximum:
            yield "minimum and maximum: two numbers, the first below the second"
        if self.cuts and not number:
            yield "cuts: are of a number"
        elif self.cuts and not all(a < b for a, b in zip((self.minimum, *self.cuts), (*self.cuts, self.maximum))):
            yield "cuts: expected to rise, between minimum and maximum"
        if self.levels and (len(set(map(canonical, self.levels))) != len(self.levels) or len(self.levels) < 2):
            yield "levels: two or more, each once; 1 and 1.0 are the same"


@dataclass(frozen=True)
class Rules:
    """The whole file. Columns that it does not name are left out of what is written."""

    quasi: Dict[str, Quasi]
    k: int = 5  # persons, or rows where there is no `patient`, who are alike in all of `quasi` at least [2 to 1000000]
    sensitive: str = ""  # the column that must not be learned of anybody; it stays as it is [text]
    l_diversity: float = 1.0  # values of it in each class at least: different ones, or e to their entropy [1 to 1000]
    diversity: str = "distinct"  # how they are counted [distinct, entropy]
    t_closeness: float = (
        1.0  # greatest distance of its distribution in a class from that in the table [0 to 1; 1: no demand]
    )
    patient: str = (
        ""  # says whose a row is: persons are counted in place of rows. It is left out of what is written [text]
    )
    keep: Tuple[str, ...] = ()  # other columns that are written, as they are [texts]
    suppression: float = 0.0  # share of the rows that may be left out for a missing value in `quasi` [0 to 1]
    mode: str = (
        "strict"  # rows that are alike stay together; relaxed: may be parted, for smaller classes [strict, relaxed]
    )
    # column of 2 to 20 values that a model is to predict, to say what is lost for that; it is written, as it is [text]
    label: str = ""

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def hierarchies(self, folder: Path) -> List[Path]:
        """The files of them; the folder is that of the rules."""
        return [folder / quasi.hierarchy for quasi in self.quasi.values() if quasi.hierarchy]

    def _wrong(self) -> Iterator[str]:
        yield from count("k", self.k, 2, 1_000_000)
        yield from within("l_diversity", self.l_diversity, 1, 1000)
        yield from within("t_closeness", self.t_closeness, 0, 1)
        yield from within("suppression", self.suppression, 0, 1)
        yield from one_of("diversity", self.diversity, DIVERSITIES)
        yield from one_of("mode", self.mode, MODES)
        if not self.quasi:
            yield "quasi: no column by which somebody could be known; name them as [quasi.NAME]"
        if not self.sensitive and (self.l_diversity > 1 or self.t_closeness < 1):
            yield "l_diversity and t_closeness: are of `sensitive`, which is not given"
        if self.diversity != "distinct" and self.l_diversity == 1:
            yield f"diversity {self.diversity!r}: how l_diversity counts, which is not given"
        if self.mode == "relaxed" and any(each.cuts or each.hierarchy for each in self.quasi.values()):
            yield "mode 'relaxed': parts rows that are alike, so that there are neither cuts nor hierarchies"
        for name in sorted({self.sensitive, self.patient, self.label, *self.keep} & set(self.quasi)):
            yield f"{name!r}: is in [quasi], and named otherwise too: it would be written as it is"
        if self.patient and self.patient in (self.sensitive, self.label, *self.keep):
            yield f"patient {self.patient!r}: identifies somebody, so it is not kept"


def read_rules(path: Path) -> Rules:
    """Reads the whole file; DataError with every mistake in it."""
    try:
        said, _ = read_toml(path)
        rules: Rules = structure({"quasi": {}, **said}, Rules, str(path))
    except UsageError as error:
        raise DataError(str(error)) from error
    return rules
