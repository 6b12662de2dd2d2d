"""The identifiers of a table, by which two hospitals find the persons both have (privacy/linkage.py)."""

import unicodedata
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence

from orchestrator.data.cells import names_nobody, nobody
from orchestrator.data.columns import column_at
from orchestrator.data.formats import wrong_count
from orchestrator.data.problems import Problems
from orchestrator.data.sources.base import Row


class Identifiers(NamedTuple):
    """Distinct identifiers of a table. cells: as each first stands in it."""

    values: List[str]
    cells: List[List[str]]


def identifiers_of(path: Path, rows: Iterator[Row], columns: Sequence[str]) -> Identifiers:
    """Those in some columns of a table, whose rows come names first. DataError for a column that is not there, and for a row that
    says nobody; path: for messages."""
    first = next(rows, None)
    header = first[1] if first is not None else []
    places = [column_at(str(path), name, header) for name in columns]
    found: Dict[str, List[str]] = {}
    problems = Problems(path)
    for line, cells in rows:
        if len(cells) != len(header):
            problems.add(f":{line}", wrong_count(cells, header))
            continue
        own = [cells[place] for place in places]
        if any(map(names_nobody, own)):
            name, cell = next((name, cell) for name, cell in zip(columns, own) if names_nobody(cell))
            problems.add(f":{line}", f"column {name!r}: {nobody(cell)}")
        else:
            found.setdefault(normal(own), own)
    problems.refuse()
    return Identifiers(list(found), list(found.values()))


def normal(cells: Sequence[str]) -> str:
    """One text for what is written in one or more columns: composed, without case and surplus spaces."""
    return "\x1f".join(" ".join(unicodedata.normalize("NFKC", cell).casefold().split()) for cell in cells)
