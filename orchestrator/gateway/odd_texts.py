"""Names and values that no task can hold, though tables do: too long, or with line ends and other characters nobody can read."""

import unicodedata
from collections import Counter
from typing import List, Sequence

from orchestrator.data.cells import shown
from orchestrator.gateway.delimited import Table
from orchestrator.wire.sizes import MOST_CHARACTERS

MOST_NAMED = 20
"""Columns of a table that a message lists."""

SHORT = 60
"""Characters of a name that is shown in full."""

_CALLED = {"\n": "a line end", "\r": "a line end", "\t": "a tab", "\xa0": "a no-break space"}


def unusable(text: str, most: int = MOST_CHARACTERS) -> str:
    """What is wrong with a name or a value of a task, as 'it has 3,000 characters, at most 200'; empty where nothing is."""
    if len(text) > most:
        return f"{len(text):,} characters, at most {most}"
    odd = next((character for character in text if not character.isprintable()), "")
    if not odd:
        return ""
    name = _CALLED.get(odd) or f"{unicodedata.name(odd, 'a control character').lower()} (U+{ord(odd):04X})"
    return f"{name}, which cannot be printed"


def bad_name(name: str) -> str:
    """Why no task can have a column of this name, with what to do; empty where one can."""
    if not name:
        return "it has no name: give it one in the line of names"
    why = unusable(name)
    return f"its name has {why}: rename it" if why else ""


def short(name: str) -> str:
    """A column's name for a line of a message: as it is, or cut and with escapes where it would not fit there."""
    return shown(name) if unusable(name, SHORT) else name


def listed(names: Sequence[str]) -> str:
    """Columns of a table, for a message: printable, none long, and not too many."""
    named = [short(name) for name in names if name]
    more = f" and {len(named) - MOST_NAMED:,} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more


def bad_value(table: Table, name: str, values: Sequence[str], most: int = MOST_CHARACTERS) -> str:
    """What is wrong with the first of a column's values that no task can hold, and where it is first; empty where none is."""
    for value in values:
        why = unusable(value, most)
        if why:
            return f"a value (first in line {first_line(table, name, value)}) has {why}"
    return ""


def first_line(table: Table, name: str, value: str) -> int:
    """Where a value of a column stands first."""
    index = table.header.index(name)
    return next(line for line, cells in table.rows if cells[index] == value)


def nearly_alike(names: Sequence[str]) -> List[str]:
    """Of columns whose names differ by case or by spaces only: a word on them."""
    folded = Counter("".join(name.split()).casefold() for name in names)
    alike = sorted(name for name in names if folded["".join(name.split()).casefold()] > 1)
    if not alike:
        return []
    return [
        f"columns {', '.join(map(shown, alike))} differ by case or by spaces only: nodes need each as it is written"
    ]
