"""What a node says of itself in its presence: where it stands in its runs, and, with limits, labels, health and figures."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, Iterator, List, Mapping, Optional

from orchestrator.wire.announcing import Kinded, OfRun
from orchestrator.wire.message import LARGEST, Message, always, data, entries, made, part, text, whole
from orchestrator.wire.plain import plain
from orchestrator.wire.refusals import UNKNOWN, known_code

BESIDE = ("health", "refused")
"""Kinds of messages on a presence's topic that stand beside it: what the node said before still holds."""

WATCHING = "watching"
"""The kind of a gateway's presence while it runs no rounds and waits for boards to report drift; "gateway" otherwise."""

MOST_ENTRIES = 32
_TEXT = 100


@dataclass(frozen=True)
class Word(Message):
    """Where a node stands in a run, or that it is here and in none."""


@dataclass(frozen=True)
class Hello(Word):
    KIND: ClassVar[str] = "hello"
    finished: str = field(default="", metadata=text())
    """The run it knows to be over."""


@dataclass(frozen=True)
class RunReady(Word, OfRun):
    """It takes part. Gateways read what it is counted with as they do in its answers (wire/counted.py)."""

    KIND: ClassVar[str] = "ready"
    records: int = field(metadata=whole())
    """As stated: with privacy on, noised."""
    units: Optional[int] = field(default=None, metadata=whole())
    """Of privacy, likewise; a relay says nothing of them."""
    role: str = field(default="", metadata=text())
    """Of one that has no data."""


@dataclass(frozen=True)
class RunDeclined(Word, OfRun):
    KIND: ClassVar[str] = "declined"
    code: str = field(default=UNKNOWN, metadata=always(made(known_code)))
    """Why, of wire/refusals.py; whatever else stands there is read as unknown."""


@dataclass(frozen=True)
class RunWaiting(Word, OfRun):
    """Its owner has to decide, or something else may come that it lacks."""

    KIND: ClassVar[str] = "waiting"
    digest: str = field(metadata=text(0, 64))
    """Of the task, or of the answer, that is decided on."""
    code: str = field(default=UNKNOWN, metadata=always(made(known_code)))


@dataclass(frozen=True)
class Gone(Message):
    """It left, or its broker lost it."""

    KIND: ClassVar[str] = "gone"
    node: str = field(metadata=text())
    instance: str = field(metadata=text())


@dataclass(frozen=True)
class MessageRefused(Message):
    KIND: ClassVar[str] = "refused"
    node: str = field(metadata=text())
    code: str = field(default=UNKNOWN, metadata=always(made(known_code)))


@dataclass(frozen=True)
class Present(Kinded):
    """How a gateway reads any presence first."""

    instance: str = field(default="", metadata=text())
    """Of the node's state folder; none of older versions."""


@dataclass(frozen=True)
class Standing(Kinded):
    """And then where the node stands: which run its word is of, or which it knows to be over."""

    run: str = field(default="", metadata=text())
    finished: str = field(default="", metadata=text())


@dataclass(frozen=True)
class LedgerHead(Message):
    """Where a node's ledger ends."""

    entries: int = field(metadata=whole())
    hash: str = field(metadata=text(64, 64))
    """Of the last entry."""
    process: str = field(metadata=text(0, 64))
    """Of the node that says so, at random."""
    n: int = field(metadata=whole())
    """How often it said so before."""


@dataclass(frozen=True)
class LedgerSaid(Message):
    """In a presence or an answer."""

    ledger: Optional[LedgerHead] = field(default=None, metadata=part(LedgerHead))
    """A relay has none."""


@dataclass(frozen=True)
class Others(Message):
    """Of a presence."""

    runs: List[Dict[str, Any]] = field(default_factory=list, metadata=entries(data()))
    """What it says of the runs that are not at hand."""


def stated_labels(header: Mapping[str, Any]) -> Dict[str, str]:
    """The first MOST_ENTRIES labels as printable texts; nothing where there is no table of them."""
    return {plain(name, _TEXT): plain(held, _TEXT) for name, held in _entries(header, "labels")}


def stated_numbers(header: Mapping[str, Any], table: str) -> Dict[str, float]:
    """The numbers among the first MOST_ENTRIES of `health` or `process`; what is no number is no report."""
    return {plain(name, _TEXT): held for name, held in _entries(header, table) if _is_number(held)}


def words(header: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """What a node says of each of its runs, the one at hand first. WireError where a word is not a map."""
    yield header
    yield from Others.read(header).runs


def word_on(header: Dict[str, Any], run: str) -> Dict[str, Any]:
    """The presence with what it says of `run`; unchanged where it speaks of others only."""
    for word in Others.read(header).runs:
        if word.get("run") == run:
            return {**{name: held for name, held in header.items() if name != "finished"}, **word}
    return header


def _entries(header: Mapping[str, Any], table: str) -> Any:
    held = header.get(table)
    return list(held.items())[:MOST_ENTRIES] if isinstance(held, dict) else []


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST
