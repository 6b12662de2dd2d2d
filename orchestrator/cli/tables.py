"""Plain text tables, times and figures for people."""

import json
import shlex
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from orchestrator.wire.plain import many, plain
from orchestrator.wire.topics import BOARD, FLEET, MONITOR

_LINE = 4000
"""Characters of a line: a table may be wide."""


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, first row the heads. Cells are made plain: some hold what a node wrote."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def scores(columns: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> str:
    """Figures of a model (score_tables.chosen) with intervals, each site's, and warnings; empty where there are none."""
    from orchestrator.gateway import score_tables

    if not columns:
        return ""
    parts = [table(score_tables.rows(columns, classes))]
    for title, figures in columns.items():
        sites = score_tables.site_rows(figures)
        parts += [f"{title}, by site:\n{table(sites)}"] if sites else []
    parts += [f"warning: {line}" for line in score_tables.warnings(columns)]
    return "\n\n".join([*parts, "Intervals are of 95 %; thresholds were chosen on the records they are shown for."])


_MOST_ROWS, _CELL = 30, 40
"""Of a table that people read on a terminal, and characters of a cell; its file has all."""


def tables(analysis: Mapping[str, Any]) -> str:
    """The result of an analysis, as a report has it."""
    parts = []
    for each in analysis["tables"]:
        rows = [[plain(number(cell), _CELL) for cell in row] for row in (each["columns"], *each["rows"][:_MOST_ROWS])]
        left = len(each["rows"]) - _MOST_ROWS
        more = f"\nand {many(left, 'row')} more, in its file" if left > 0 else ""
        parts.append(f"{each['name']}\n{table(rows)}{more}")
    return "\n\n".join([*parts, *analysis["notes"]])


def say(text: str) -> None:
    """Prints lines for people, each made plain."""
    print("\n".join(plain(line, _LINE) for line in text.split("\n")))


def report(as_json: bool, found: Dict[str, Any], text: str) -> None:
    """What a command did: one JSON object, or `text` for people."""
    if as_json:
        print(json.dumps(found))
    else:
        say(text)


def moment(seconds: Optional[float]) -> str:
    """Local time of seconds since 1970."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


_PLAIN = 9999.5, 1e15
"""Magnitudes that people read without an exponent: an income of 10900, not of 1.09e+04."""


def number(value: Any, digits: int = 4) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and _PLAIN[0] <= abs(value) < _PLAIN[1]:
        return f"{value:.0f}"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def next_command(name: str, folder: Path) -> str:
    """What to do with the identity in `folder`, which is of `name`."""
    use = {MONITOR: "monitor PORT --forward BROKER", BOARD: "board connect PORT ...", FLEET: "board fleet list ..."}
    words = next((words for kind, words in use.items() if name.startswith(kind)), "node run --data FILE")
    return f"next: edgeward {words} --identity {shlex.quote(str(folder))}"
