"""Plain text tables, times and figures for people."""

import time
from typing import Any, Optional, Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, first row the heads."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def moment(seconds: Optional[float]) -> str:
    """Local time of seconds since 1970."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def number(value: Any, digits: int = 4) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
