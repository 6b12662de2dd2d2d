"""Cells of a result's tables, as tests compare them: a cell may also be a text, or empty."""

from typing import Any, Dict

from orchestrator.analyses.base import Table


def numeric(cell: Any) -> float:
    """Of a cell that must hold one: TypeError or ValueError where it does not."""
    return float(cell)


def pairs_of(table: Table) -> Dict[Any, Any]:
    """Of a table with two columns."""
    return {name: value for name, value in table.rows}
