"""What a node says of itself in its presence, read with limits: labels of its owner, its health, figures of its process."""

import math
from typing import Any, Dict, Mapping

from orchestrator.wire.plain import plain

MOST_ENTRIES = 32
_TEXT = 100
_LARGEST = 1e15
"""A number beyond it is not of this world, and no reader of ours has to compute with it."""


def stated_labels(header: Mapping[str, Any]) -> Dict[str, str]:
    """The first MOST_ENTRIES labels as printable texts; nothing where there is no table of them."""
    return {plain(name, _TEXT): plain(held, _TEXT) for name, held in _entries(header, "labels")}


def stated_numbers(header: Mapping[str, Any], table: str) -> Dict[str, float]:
    """The numbers among the first MOST_ENTRIES of `health` or `process`; what is no number is no report."""
    return {plain(name, _TEXT): held for name, held in _entries(header, table) if _is_number(held)}


def _entries(header: Mapping[str, Any], table: str) -> Any:
    held = header.get(table)
    return list(held.items())[:MOST_ENTRIES] if isinstance(held, dict) else []


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= _LARGEST
