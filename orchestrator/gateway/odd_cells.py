"""Numbers that are not written as plain numbers: bounds, units, thousands, decimal commas; counted by column, with what to do."""

from collections import Counter
from typing import Dict, List, NamedTuple, Optional, Sequence

from orchestrator.data.cells import bare_number, number_form
from orchestrator.gateway.delimited import Table

MOST_FORMS = 4
"""Of one column that are named."""

ENOUGH = 0.8
"""Share of a column's values that must be numbers, however written, for the column to be one of numbers."""


class Written(NamedTuple):
    """How the values of a column are written. plain: as numbers; forms: otherwise; texts: as none. lines: the first of each."""

    present: int
    plain: int
    forms: Dict[str, int]
    texts: int
    lines: Dict[str, int]

    @property
    def numbers(self) -> int:
        return self.plain + sum(self.forms.values())

    @property
    def of_numbers(self) -> bool:
        """Whether it is a column of numbers, some of which are written otherwise."""
        return bool(self.forms) and self.numbers >= ENOUGH * self.present


def written(table: Table, name: str, present: Sequence[bool]) -> Written:
    """Of the rows where a value is present. No cell is in what it gives, which ends in a public file."""
    index = table.header.index(name)
    counts: Counter[str] = Counter()
    lines: Dict[str, int] = {}
    plain = texts = 0
    for (line, cells), there in zip(table.rows, present):
        if not there:
            continue
        if table.number(cells[index]) is not None:
            plain += 1
            continue
        form = number_form(cells[index])
        lines.setdefault(form, line)
        texts += not form
        if form:
            counts[form] += 1
    return Written(plain + texts + sum(counts.values()), plain, dict(counts.most_common()), texts, lines)


def said(found: Written) -> str:
    """What is written how, how often, where first, and what to do about it."""
    parts: List[str] = []
    for form, count in list(found.forms.items())[:MOST_FORMS]:
        parts.append(f"{count:,} {form.format(first=f'first in line {found.lines[form]}')}")
    if found.texts:
        parts.append(
            f"{found.texts:,} texts (first in line {found.lines['']}): correct them, or list them in missing_markers if they "
            "stand for no value"
        )
    return f"of its {found.present:,} values {found.plain:,} are plain numbers; {'; '.join(parts)}"


def amounts(table: Table, levels: Sequence[str]) -> Optional[List[float]]:
    """The numbers that values stand for, where all of them are numbers however written, and one at least no mere bound."""
    numbers = []
    for level in levels:
        plain = table.number(level)
        value = plain if plain is not None else bare_number(level)
        if value is None:
            return None
        if plain is not None or not level.startswith(("<", ">", "~", "\u2248", "\u2264", "\u2265")):
            numbers.append(value)
    return sorted(numbers) or None
