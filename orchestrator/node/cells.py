"""What one cell of a data file means: a number, a category or a class. Errors say what was found and how to write it.

They quote the cell, so they are for the owner of the file alone.
"""

import math
import re
from typing import Iterable, List, Optional

from orchestrator.wire.bounds import near
from orchestrator.wire.task import Feature, Schema

_SHOWN = 60
_MARKERS = {"na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "unknown", "unk", ".", "-", "--", "<na>"}
"""What other programs write for a missing value."""

_HINTS = (
    (re.compile(r"[+-]?\d{1,3},\d{3}"), "a decimal comma, or thousands? write 1.234 or 1234"),
    (re.compile(r"[+-]?\d+,\d+"), "a decimal comma? write 3.5"),
    (re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+"), "a decimal comma and thousands? write 1234.5"),
    (re.compile(r"[+-]?\d{1,3}([, ']\d{3})+(\.\d+)?"), "thousands are not separated: write 1234.5"),
    (re.compile(r"[<>~\u2248\u2264\u2265]=?\s*[\d.,]+"), "a bound is no value: leave it out or decide on one"),
    (
        re.compile(r"[+-]?[\d.,]+\s*[^\W\d_%][\w/%.\u00b0]*|[+-]?[\d.,]+\s*[%\u00b0]\w*"),
        "write the number without its unit",
    ),
    (re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*"), "a date; make it a number, such as days"),
    (re.compile(r".*_.*|[^\x00-\x7f]+.*|.*\d[^\x00-\x7f]+"), "write it with the digits 0 to 9, without '_'"),
)


class CellError(Exception):
    """A cell is not what the schema says. The message quotes it and stays on this machine."""


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


def encode(feature: Feature, cell: str) -> List[float]:
    """A feature's inputs: the number, or one value for each category. CellError for anything else."""
    if feature.categories:
        key = canonical(cell)
        matches = [canonical(category) == key for category in feature.categories]
        if not any(matches):
            raise CellError(
                f"{shown(cell)} is not one of {_some(feature.categories)}{_meant(cell, feature.categories)}"
            )
        return [float(match) for match in matches]
    value = number(cell)
    if value is None:
        raise CellError(f"{shown(cell)} is not a number{_hint(cell)}")
    if not math.isfinite(value):
        raise CellError(f"{shown(cell)} is not a finite number")
    return [value]


def class_of(schema: Schema, cell: str) -> int:
    """The index of the class a label means. CellError for one the schema does not list."""
    key = canonical(cell)
    for value, index in schema.label_values.items():
        if canonical(value) == key:
            return index
    known = f"label {shown(cell)} is not in the task's schema (known: {_some(schema.label_values)})"
    if cell in schema.classes:
        raise CellError(f"{known}; it is the name of a class, label_values says what stands for it in the file")
    raise CellError(f"{known}{_meant(cell, schema.label_values)}")


def shown(cell: str) -> str:
    return repr(cell) if len(cell) <= _SHOWN else f"{cell[:_SHOWN]!r}..."


def _some(values: Iterable[str]) -> str:
    listed = list(values)
    return ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")


def _meant(cell: str, known: Iterable[str]) -> str:
    return _marker(cell) or near(cell, known)


def _hint(cell: str) -> str:
    return _marker(cell) or next((f"; {text}" for pattern, text in _HINTS if pattern.fullmatch(cell[:100])), "")


def _marker(cell: str) -> str:
    if cell.casefold() not in _MARKERS:
        return ""
    return "; if it stands for a missing value, ask for it among missing_markers in the task's schema"
