"""What one cell of a data file means: a number, a category or a class; and why it means none of these. Rows of them, packed.

Reasons quote the cell, so they are for the owner of the file alone.
"""

import math
import re
from array import array
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence

import numpy as np

from orchestrator.wire.bounds import near
from orchestrator.wire.schema import Feature, Schema

_SHOWN = 60
_COMPARED = 100
"""The values a task lists, with a cell that is not among them."""

MARKERS = (
    *(
        "na",
        "n/a",
        "#n/a",
        "n.a.",
        "nan",
        "<na>",
        "null",
        "none",
        "nil",
        "missing",
        "unknown",
        "unk",
        ".",
        "-",
        "--",
        "---",
    ),
    *(
        "not available",
        "not known",
        "not done",
        "not measured",
        "n.d.",
        "#null!",
        "#value!",
        "#div/0!",
        "#num!",
        "#ref!",
        "#name?",
    ),
)
"""What people and programs write for a missing value, in lower case."""

_NOBODY = frozenset(("", "?", *MARKERS))

_UNIT = r"(?:[^\W\d_%][\w/%.\u00b0\u00b5\u03bc^*-]*|[%\u2030\u00b0]\w*)"
_AMOUNT = r"[+-]?\d[\d.,]*"
_HINTS = (
    (
        re.compile(rf"=?[\"'`\u2018\u2019\u201c\u201d]+{_AMOUNT}[\"'`\u2018\u2019\u201c\u201d]*"),
        "take out what stands round the number",
        "in quotation marks",
    ),
    (re.compile(r"0[xX][0-9a-fA-F]+"), "write it in decimal digits", ""),
    (re.compile(rf"\(\s*{_AMOUNT}\s*\)"), "a negative number in brackets? write -5", ""),
    (
        re.compile(r"(19|20)\d\d[-/.](0[1-9]|1[0-2])|(0?[1-9]|1[0-2])[-/.](19|20)\d\d"),
        "a date; make it a number, such as days",
        "",
    ),
    (re.compile(r"\d+(\.\d+)?\s*/\s*\d+(\.\d+)?"), "two numbers; give each a column of its own", ""),
    (
        re.compile(rf"{_AMOUNT}\s*(-|\u2013|\u2014|to|\.\.+)\s*{_AMOUNT}"),
        "a range; decide on one value for it, such as its middle",
        "",
    ),
    (re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?"), "a time; make it a number, such as minutes", ""),
    (re.compile(r"[+-]?\d{1,3},\d{3}"), "a decimal comma, or thousands? write 1.234 or 1234", "with a comma"),
    (re.compile(r"[+-]?\d+,\d+"), "a decimal comma? write 3.5", "with a decimal comma"),
    (re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+"), "a decimal comma and thousands? write 1234.5", "with thousands"),
    (
        re.compile(r"[+-]?\d{1,3}([, '\u00a0\u2009]\d{3})+(\.\d+)?"),
        "thousands are not separated: write 1234.5",
        "with thousands",
    ),
    (
        re.compile(rf"[<>~\u2248\u2264\u2265]=?\s*[\d.,]+\s*{_UNIT}?|[\d.,]+\s*\+"),
        "a bound is no value: leave it out or decide on one",
        "as a bound",
    ),
    (re.compile(rf"[+-]?[\d.,]+\s*{_UNIT}"), "write the number without its unit", "with a unit"),
    (re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*"), "a date; make it a number, such as days", ""),
    (
        re.compile(r"[+\-\u2212]?\d[\d_]*([.,]\d[\d_]*)?|[+\-\u2212]\d[\d_.,]*"),
        "write it with the digits 0 to 9, without '_'",
        "with other digits",
    ),
)
_FORMS = {
    "with a comma": "with a comma, as in 1,234 ({first}): write 1.234 or 1234",
    "with a decimal comma": "with a decimal comma ({first}): write 3.5",
    "with thousands": "with thousands set apart ({first}): write 1234.5",
    "as a bound": "as a bound, as in <5 ({first}): decide on one value for each, such as the limit",
    "with a unit": "with a unit or % ({first}): write the number without its unit",
    "in quotation marks": "in quotation marks ({first}): take out what stands round the number",
    "with other digits": "with other digits ({first}): write it with the digits 0 to 9",
}


def number(cell: str) -> Optional[float]:
    """The number a cell holds in plain digits, possibly infinite or NaN; None for any other text."""
    if "_" in cell or not cell.isascii():  # which Python reads as numbers as well
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def canonical(cell: str) -> str:
    """`1`, `1.0` and `01` are one category; text is itself. Codes of any length stay apart."""
    value = number(cell)
    if value is None:
        return cell
    try:
        return str(int(cell))
    except ValueError:
        return str(int(value)) if value.is_integer() else repr(value)


def folded(cell: str) -> str:
    """The same for all spellings of a value, in any case: to count different values or persons, where too few are safer."""
    return canonical(cell).casefold()


class Codes:
    """The values a column may have. How long a cell takes depends neither on which of them it is, nor on whether it is one:
    a task lists them, and times the answer.
    """

    def __init__(self, values: Sequence[str]) -> None:
        self._codes: Dict[str, int] = {}
        self.alike = [self._codes.setdefault(canonical(value), i) for i, value in enumerate(values)]
        """Of each value the code that cells with it have; more than one value may mean the same."""

    def find(self, cell: str) -> int:
        """The first value the cell means, -1 for none."""
        return self._codes.get(canonical(cell), -1)


def finite(cell: str) -> Optional[float]:
    """The finite number a cell holds, None for anything else."""
    value = number(cell)
    return value if value is not None and math.isfinite(value) else None


def names_nobody(cell: str) -> bool:
    """Whether a cell of the column that says whose a record is says nothing: records of many would count as one patient's.

    Which texts do is fixed, not the task's to choose.
    """
    return cell.casefold() in _NOBODY


def nobody(cell: str) -> str:
    """Why such a cell is refused."""
    found = f"{shown(cell)} stands for no value" if cell else "empty"
    return f"{found}; every record must say whose it is: fill it in, or remove the row"


def unfit(feature: Feature, cell: str) -> str:
    """Why a cell is no value of a feature: what was found, what is meant perhaps, how to write it."""
    if feature.categories:
        return f"{shown(cell)} is not one of {_some(feature.categories)}{_meant(cell, feature.categories)}"
    return unfit_number(cell)


def unfit_number(cell: str) -> str:
    """Why a cell is no finite number."""
    value = number(cell)
    if value is not None:
        return f"{shown(cell)} is not a finite number: correct it, or leave the cell empty"
    return f"{shown(cell)} is not a number{_hint(cell)}"


def no_class(schema: Schema, cell: str) -> str:
    """Why a label is not one the schema lists."""
    known = f"label {shown(cell)} is not in the task's schema (known: {_some(schema.label_values)})"
    if cell in schema.classes:
        return f"{known}; it is the name of a class, label_values says what stands for it in the file"
    if set(schema.label_values) == set(schema.classes) and canonical(cell) in map(str, schema.label_values.values()):
        return (
            f"{known}; label_values has the names of the classes where the values of the file belong: "
            f'write {{ "{canonical(cell)}" = {canonical(cell)}, ... }}'
        )
    return f"{known}{_meant(cell, schema.label_values)}"


def shown(cell: str) -> str:
    return repr(cell) if len(cell) <= _SHOWN else f"{cell[:_SHOWN]!r}..."


def _some(values: Iterable[str]) -> str:
    listed = list(values)
    return ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")


_DIGITS = re.compile(r"[+-]?\d[\d.,' \u00a0\u202f]*|[+-]?[.,]\d+")
"""The first number in a cell, with what stands between its thousands: what follows belongs to its unit."""


_RECODE = "; correct it, or say with `recode` of a description what it means"


def _meant(cell: str, known: Iterable[str]) -> str:
    return _marker(cell) or near(cell[:_SHOWN], list(known)[:_COMPARED]) or _RECODE


def _hint(cell: str) -> str:
    hint = number_hint(cell)
    return _marker(cell) or f"; {hint or 'correct it, or take the row out'}"


def number_hint(cell: str) -> str:
    """How to write what looks like a number or a date, and is no plain number; empty for other text."""
    return next((text for pattern, text, _ in _HINTS if pattern.fullmatch(cell[:100])), "")


def number_form(cell: str) -> str:
    """How a number is written that is no plain one, with what to do: a text with {first} for a place. Empty for other text."""
    if number(cell) is not None:
        return ""
    return _FORMS.get(next((form for pattern, _, form in _HINTS if pattern.fullmatch(cell[:100])), ""), "")


def bare_number(cell: str) -> Optional[float]:
    """About the number in a cell that number_form recognizes, without bound, unit and thousands; None for other text."""
    if not number_form(cell):
        return None
    found = _DIGITS.search(cell.translate({0x2212: "-"}))
    digits = re.sub(r"[^\d.,+-]", "", found.group() if found else "")
    decimal = re.fullmatch(r"[+-]?\d+,\d{1,2}|[+-]?\d+,\d{4,}|[+-]?[\d.]+\.\d{3},\d+", digits)
    digits = digits.replace(".", "").replace(",", ".") if decimal else digits.replace(",", "")
    return finite(digits.rstrip("+"))


def _marker(cell: str) -> str:
    if cell.casefold() not in MARKERS:
        return ""
    return "; if it stands for a missing value, ask for it among missing_markers in the task's schema"


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
