"""JSON that boards and strangers sent, read with limits: what is not one plain object is nothing."""

import json
import math
from typing import Any, Dict, Optional

from orchestrator.wire.plain import plain, plain_fields

_MOST_DIGITS = 20


def read_object(data: bytes, most_bytes: int, text_limit: int = 200) -> Optional[Dict[str, Any]]:
    """The JSON object in `data`, every text in it made plain and at most `text_limit` characters long; None for all else."""
    found = parse_object(data, most_bytes)
    return (
        None
        if found is None
        else {plain(key, text_limit): plain_fields(held, text_limit) for key, held in found.items()}
    )


def parse_object(data: bytes, most_bytes: int) -> Optional[Dict[str, Any]]:
    """The JSON object in `data`, its texts as they are; None for all else.

    Numbers are finite, and whole ones have at most 64 bits: code that computes with them, or writes them out again, can.
    """
    if len(data) > most_bytes:
        return None
    try:
        found = json.loads(data, parse_int=_whole, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _whole(text: str) -> int:
    number = int(text) if len(text) <= _MOST_DIGITS else 1 << 64
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError("a number of more than 64 bits")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all floats")
    return number


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
