"""A draft of the description that leads from an owner's table to a task's columns, for the owner to confirm line by line.

It guesses names only; what a code means, and a unit, is for people to say.
"""

import difflib
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence

from orchestrator.data.cells import MARKERS, canonical
from orchestrator.data.described import TAB
from orchestrator.gateway.delimited import Table
from orchestrator.gateway.draft import as_toml, toml_key
from orchestrator.gateway.odd_texts import listed
from orchestrator.wire.schema import Feature, Schema

MOST_LEVELS = 30


BY_MAP = "A draft by `edgeward data map`. CONFIRM every line; those that begin with #? are to be filled in."
BY_INIT = (
    "A draft by `edgeward init`: how this node's table answers the task. It never leaves the node. CONFIRM every line."
)


class Draft(NamedTuple):
    """text: the TOML. open: what is to be filled in before a node can read by it, a line each."""

    text: str
    open: List[str]


def draft_mapping(table: Table, file: str, schema: Schema, head: str = BY_MAP) -> Draft:
    """file: how the description names the table."""
    found: List[str] = []
    lines = [
        f"# {head}",
        "# All keys, with their meaning: docs/data.md of the project.",
        "[source]",
        f"file = {as_toml(file)}  # beside this file, or an absolute path; FILE#NAME for one of several tables",
    ]
    if table.separator != ",":
        lines.append(f"delimiter = {as_toml(TAB if table.separator == chr(9) else table.separator)}  # between values")
    if table.encoding not in ("utf-8-sig", ""):
        lines.append(f"encoding = {as_toml(table.encoding)}  # of a text that is not UTF-8")
    used: List[str] = []
    for feature in schema.features:
        lines += _column(table, feature.name, used, found, feature)
    for name in filter(None, schema.learned.columns):
        lines += _column(table, name, used, found, levels=tuple(schema.label_values))
    if schema.patient:
        lines += _column(table, schema.patient, used, found)
    return Draft("\n".join(lines) + "\n", found)


def _column(
    table: Table,
    name: str,
    used: List[str],
    found: List[str],
    feature: "Feature | None" = None,
    levels: Sequence[str] = (),
) -> Iterator[str]:
    source = name if name in table.header else _nearest(name, [each for each in table.header if each not in used])
    yield ""
    yield f"[columns.{toml_key(name)}]"
    if not source:
        found.append(f"column {name!r}: no column of the table is called like it")
        yield f'#? column = "..."  # the table has {listed(table.header)}'
        return
    used.append(source)
    yield f"column = {as_toml(source)}  # " + (
        "the table's name for it" if source == name else "CONFIRM: the nearest name"
    )
    categories = feature.categories if feature is not None and feature.categories else levels
    markers = sorted({cell for cell in table.column(source) if cell.casefold() in MARKERS} - set(categories))
    cells = [cell for cell in table.column(source) if cell and cell not in markers]
    if markers:
        yield f"missing = {as_toml(markers)}  # cells that stand for no value, besides empty ones"
    if categories:
        yield from _recode(name, cells, categories, found)
    elif feature is not None:
        yield from _number(table, feature, cells, found)


def _nearest(name: str, header: Sequence[str]) -> str:
    """The column that is called most like it, "" for none."""
    folded = {each.casefold(): each for each in header}
    return next((folded[each] for each in difflib.get_close_matches(name.casefold(), list(folded), 1)), "")


def _recode(name: str, cells: Sequence[str], categories: Sequence[str], found: List[str]) -> Iterator[str]:
    known = {canonical(value) for value in categories}
    others = sorted({cell for cell in cells if canonical(cell) not in known})
    if not others:
        return
    found.append(f"column {name!r}: what {', '.join(map(repr, others[:5]))} mean{'s' if len(others) == 1 else ''}")
    pairs = ", ".join(f"{toml_key(cell)} = {as_toml('...')}" for cell in others[:MOST_LEVELS])
    yield f"#? recode = {{ {pairs} }}  # every cell of the column, each to one of {', '.join(categories)}"


def _number(table: Table, feature: Feature, cells: Sequence[str], found: List[str]) -> Iterator[str]:
    low, high = feature.range
    numbers = [table.number(cell) for cell in cells]
    if table.decimal_comma and any("," in cell for cell in cells):
        yield "decimal_comma = true  # numbers are written 3,5"
    values = [number for number in numbers if number is not None]
    if len(values) < len(numbers):
        found.append(
            f"column {feature.name!r}: {len(numbers) - len(values)} cells are no numbers (edgeward data validate)"
        )
    beyond = sum(not low <= value <= high for value in values)
    if beyond:
        found.append(
            f"column {feature.name!r}: {beyond} of {len(values)} values are beyond {low:g} to {high:g}: another unit?"
        )
        yield f'#? unit = "..."  # of the table; to = "..." is that of the task, whose range is {low:g} to {high:g}'


def name_in(description: Path, table: Path) -> str:
    """How a description names a table: relative to its own folder where the table is in it."""
    try:
        return str(table.resolve().relative_to(description.resolve().parent))
    except ValueError:
        return str(table.resolve())
