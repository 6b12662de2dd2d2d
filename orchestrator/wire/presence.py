"""What a node says of itself in its presence, read with limits: labels of its owner, its health, figures of its process."""

import math
from typing import Any, Dict, Iterator, Mapping

from orchestrator.errors import WireError
from orchestrator.wire.body import require
from orchestrator.wire.plain import plain

BESIDE = ("health", "refused")
"""Kinds of messages on a presence's topic that stand beside it: what the node said before still holds."""

WATCHING = "watching"
"""The kind of a gateway's presence while it runs no rounds and waits for boards to report drift; "gateway" otherwise."""

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


def words(header: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """What a node says of each of its runs, the one at hand first. WireError where a word is not a map."""
    yield header
    yield from _others(header)


def _others(header: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    for word in require({"runs": [], **header}, "runs", list):
        if not isinstance(word, dict):
            raise WireError("a presence speaks of a run in an entry that is not a map")
        yield word


def word_on(header: Dict[str, Any], run: str) -> Dict[str, Any]:
    """The presence with what it says of `run`; unchanged where it speaks of others only."""
    for word in list(_others(header)):
        if word.get("run") == run:
            return {**header, "finished": None, **word}
    return header


def _entries(header: Mapping[str, Any], table: str) -> Any:
    held = header.get(table)
    return list(held.items())[:MOST_ENTRIES] if isinstance(held, dict) else []


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= _LARGEST
