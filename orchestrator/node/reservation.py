"""What a run may release of a node's data, and what the ledger's entries about it come to."""

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, Tuple

from orchestrator.node.round_ranges import RoundRanges
from orchestrator.privacy.charges import Charge

OLD_SIDES = 16
"""Digits of `Reservation.sides` in ledgers of earlier versions: few enough to search for two schemas with the same ones."""


@dataclass(frozen=True)
class Reservation:
    """What a run may release. charges: everything one unit may be part of; used: releases so far by kind.

    sides: names the split into trained and held-out records, share: how much of it is held out; runs with the same `sides`
    split alike, so that a record is held out where its hash is below the share. closed: only what was used counts.
    """

    run: str
    digest: str
    task: str
    unit: str
    charges: Tuple[Charge, ...]
    sides: str = ""
    share: float = 0.0
    used: Dict[str, int] = field(default_factory=dict)
    rounds: RoundRanges = field(default_factory=RoundRanges)
    closed: bool = False

    def splits_like(self, other: "Reservation") -> bool:
        """Whether records are held out alike. Reservations of earlier versions have the first 16 digits of `sides` only."""
        length = OLD_SIDES if OLD_SIDES in (len(self.sides), len(other.sides)) else None
        return self.sides[:length] == other.sides[:length]

    def releases_like(self, other: "Reservation") -> bool:
        """Whether each kind that both have comes with the same noise, as often. Kinds that only one has are never released
        without having been reserved; which whole numbers the noise is drawn on, versions may count in their own ways.
        """
        kinds = {c.kind for c in self.charges} & {c.kind for c in other.charges}
        mine, others = ({replace(c, grid=None) for c in r.charges if c.kind in kinds} for r in (self, other))
        return mine == others

    @property
    def counted(self) -> Tuple[Charge, ...]:
        """The charges that count: all that is reserved, or once closed those that were used.

        A run without privacy that was reserved before these were noted has a charge without noise all the same.
        """
        if self.unit == "none" and not self.charges:
            return (Charge("training", 0.0, count=len(self.rounds) if self.closed else len(self.rounds) or 1),)
        if not self.closed:
            return self.charges
        return tuple(replace(c, count=min(c.count, self.used.get(c.kind, 0))) for c in self.charges)


def keep_newest(items: Dict[str, Any], most: int) -> None:
    """Drops what was put in first until `most` are left."""
    while len(items) > most:
        del items[next(iter(items))]


class History:
    """What the entries of one run come to, as far as they were read: up to entry `seq`."""

    def __init__(self, entry: Dict[str, Any]) -> None:
        self.seq = int(entry["seq"])
        self._reserved = {name: entry[name] for name in ("run", "digest", "task", "unit", "sides", "share")}
        self._charges = tuple(map(Charge.from_dict, entry["charges"]))
        self._used: Dict[str, int] = {}
        self._rounds = RoundRanges()
        self._closed = False

    def take(self, entry: Dict[str, Any]) -> None:
        self.seq = int(entry["seq"])
        if entry["kind"] == "release":
            self._rounds = self._rounds.adding(entry["round"])
            for name, count in entry["uses"].items():
                self._used[name] = self._used.get(name, 0) + count
        elif entry["kind"] == "close":
            self._closed = True

    def reservation(self) -> Reservation:
        return Reservation(
            **self._reserved,
            charges=self._charges,
            used=dict(self._used),
            rounds=self._rounds,
            closed=self._closed,
        )


def read_histories(histories: Dict[str, History], entries: Iterable[Dict[str, Any]]) -> None:
    """Continues `histories`, by run, with later entries."""
    for entry in entries:
        if entry["kind"] == "reserve":
            histories[entry["run"]] = History(entry)
        elif entry["kind"] in ("release", "close"):
            histories[entry["run"]].take(entry)
