"""Boards that are on a network themselves: who is there, what each says, and whether it was that board that said it.

Everything here came over a broker that may lie. A record counts as the board's only where its owner's folder was given and says
so; the rest is shown as unchecked. Boards and bytes are bounded, no matter who sends.
"""

from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Optional, Protocol

from orchestrator.wire.board_records import GONE, RAW, SCHEMA, measured, read_record

HERE, LEFT, UNHEARD, UNKNOWN = "here", "gone", "unheard", "unknown"
"""Presence: UNKNOWN while nobody listens, UNHEARD where the broker has nothing of a board."""
MOST_STRANGERS = 500
"""Boards that are not of the owner's fleet, or all where no fleet was given: a broker can make up any number of names."""
NEWEST_BOARDS, OLDER_BOARDS = 2000, 100
"""Boards of the newest roll-out that are named, and of one before."""
_AWAY_S = 600.0
"""Without a word for so long, a stranger gives its place to a new one."""
_MOST_BYTES = 4096
_MARK = b'"mac":"'
_SAID = {
    "boot": ("firmware", "chip", "engine", "reset", "simulated"),
    "info": (
        *("firmware", "chip", "engine", "reset", "simulated"),
        *("name", "state", "slot", "signature", "program", "program_slot", "on_trial", "keys_locked"),
    ),
    "model": ("name", "slot"),
    "metrics": ("inferences", "errors", "heap_free_bytes", "psi"),
    "drift": ("psi",),
}
"""Fields that are kept of each kind of record."""
_OF_A_BOOT = ("inferences", "errors", "heap_free_bytes", "psi")
_HALF_OF_NUMBERS = 2**31
_BOOTS = 8
"""Of a board that are remembered."""


class Owner(Protocol):
    """A fleet's folder: boards/fleet_owner.py."""

    @property
    def problem(self) -> str:
        """Why its file cannot be used now, or nothing."""
        ...

    def look(self) -> Mapping[str, str]:
        """Reads its file again where that changed: name of a board -> what stands for its secret."""
        ...

    def checked(self, board: str, message: bytes) -> Optional[bytes]:
        """The record in a message, if that board made it."""
        ...

    def rollouts(self, now: float) -> List[Dict[str, Any]]:
        """Newest first."""
        ...


class Seen:
    """One board. `secret` stands for the one its records are checked by; None where they are not."""

    def __init__(self, name: str, secret: Optional[str], now: float) -> None:
        self.name, self.secret = name, secret
        self.spoke_at = now
        self.foreign = self.malformed = 0
        self.presence_message = b""  # to be checked by a secret that comes later
        self._presence, self._since, self._since_known = UNHEARD, now, False
        self._verified: Optional[bool] = None
        self._heard_at: Optional[float] = None
        self._kept = False
        self._model: Optional[str] = None
        self._boot, self._seq, self._t_us = "", 0, 0
        self._boots: Deque[str] = deque(maxlen=_BOOTS)
        self._fields: Dict[str, Any] = {}

    def left(self, now: float, retained: bool) -> None:
        self._change(LEFT, now, retained)

    def take(self, record: Dict[str, Any], presence: bool, now: float, retained: bool) -> None:
        """A record that passed whatever check there is."""
        if presence:
            self._change(HERE, now, retained)
        if self.secret is not None and self._again(record):
            if record["boot"] == self._boot:  # what the broker had kept may come after what the board says now
                self._fields = {**_fields_of(record), **self._fields}
            return  # it says nothing of now
        self._verified = self.secret is not None
        if not retained:
            self._heard_at = now
        self._kept = retained
        if record["boot"] != self._boot:
            self._boots.append(record["boot"])
            for name in _OF_A_BOOT:
                self._fields.pop(name, None)
        self._boot, self._seq, self._t_us = record["boot"], record["seq"], record["t_us"]
        if record["kind"] != "error":  # whose digest is that of the model it refused
            self._model = record["model"]
        self._fields.pop("schema", None)
        if record["v"] != SCHEMA:
            self._fields["schema"] = record["v"]
            return
        self._fields.update(_fields_of(record))

    def _again(self, record: Dict[str, Any]) -> bool:
        """Whether a record was delivered before, or is of before: a broker can show any again, also of a boot that is over."""
        if record["boot"] != self._boot:
            return record["boot"] in self._boots
        return not 0 < (record["seq"] - self._seq) % 2**32 < _HALF_OF_NUMBERS

    def _change(self, presence: str, now: float, retained: bool) -> None:
        if presence != self._presence:
            self._presence, self._since, self._since_known = presence, now, not retained

    def shown(self, listening: bool, fleet: Optional[bool]) -> Dict[str, Any]:
        return {
            "board": self.name,
            "of_fleet": fleet,
            "verified": self._verified,
            "presence": self._presence if listening else UNKNOWN,
            "since": self._since if listening and self._presence != UNHEARD else None,
            "since_known": self._since_known,
            "heard_at": self._heard_at,
            "kept": self._kept,
            "model": self._model,
            "uptime_s": self._t_us / 1e6 if self._boot else None,
            "foreign": self.foreign,
            "malformed": self.malformed,
            **self._fields,
        }


def _fields_of(record: Dict[str, Any]) -> Dict[str, Any]:
    """What is kept of a record."""
    kept = measured(record) if record["kind"] == "metrics" else record
    return {name: kept[name] for name in _SAID.get(record["kind"], ()) if name in kept}


class FleetBoards:
    """Not for two threads at a time. Without an `owner` nothing is checked."""

    def __init__(self, owner: Optional[Owner] = None, now: float = 0.0) -> None:
        self.owner = owner
        self.passed_over = 0
        """Messages of strangers that found no place."""
        self._own: Mapping[str, str] = {}
        self._seen: Dict[str, Seen] = {}
        self.look(now)

    def look(self, now: float) -> None:
        """Follows the owner's file: boards that were put in or removed, or have another secret, begin again."""
        if self.owner is None:
            return
        own = self.owner.look()
        changed = [name for name in {*self._own, *own} if own.get(name) != self._own.get(name)]
        self._own = own
        for name in changed:
            before = self._seen.pop(name, None)
            if name in own:
                self._seen[name] = Seen(name, own[name], now)
            if before is not None and before.presence_message:
                self.take(name, True, before.presence_message, before.spoke_at, retained=True)

    def take(self, name: str, presence: bool, message: bytes, now: float, retained: bool = False) -> None:
        """A message on a board's topic `presence`, or else `record`. Of a monitor's board there are records only, unmarked."""
        if name not in self._seen and not self._place_for(name, presence, message, now):
            return
        seen = self._seen[name]
        if presence and message == GONE:
            seen.presence_message = message
            seen.left(now, retained)
            return
        if seen.secret is not None and self.owner is not None:
            right = self.owner.checked(name, message) if len(message) <= _MOST_BYTES else None
            if right is None:
                seen.foreign += 1
                if presence:
                    seen.presence_message = message[:_MOST_BYTES]
                return
        seen.spoke_at = now
        record = read_record(message, _MOST_BYTES)
        if record is None or record["kind"] in RAW:
            seen.malformed += 1
            return
        if presence:
            seen.presence_message = message
        seen.take(record, presence, now, retained)

    def _place_for(self, name: str, presence: bool, message: bytes, now: float) -> bool:
        """For a board that is not of the fleet. Of one that left, an owner has no use: it was of the fleet once, say."""
        if not presence and _MARK not in message[-64:]:
            return False
        if self.owner is not None and message == GONE:
            return False
        strangers = [seen for seen in self._seen.values() if seen.secret is None]
        if len(strangers) >= MOST_STRANGERS:
            longest = min(strangers, key=lambda seen: seen.spoke_at)
            if now - longest.spoke_at < _AWAY_S:
                self.passed_over += 1
                return False
            del self._seen[longest.name]
        self._seen[name] = Seen(name, None, now)
        return True

    def shown(self, now: float, state: str, listening: bool) -> Dict[str, Any]:
        """state: of the listening, in words."""
        self.look(now)
        owner = self.owner
        return {
            "state": state,
            "now": now,
            "checked": owner is not None,
            "problem": "" if owner is None else owner.problem,
            "passed_over": self.passed_over,
            "boards": [
                self._seen[name].shown(listening, None if owner is None else name in self._own)
                for name in sorted(self._seen)
            ],
            "rollouts": [] if owner is None else _shortened(owner.rollouts(now)),
        }


def _shortened(rollouts: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Whole of nearly every fleet; of a larger one, and of what is long over, the boards that are looked at first."""
    found = []
    for number, entry in enumerate(rollouts):
        boards = entry.get("boards", [])
        most = OLDER_BOARDS if number else NEWEST_BOARDS
        left_out = max(0, len(boards) - most)
        found.append({**entry, "boards": boards[:most], "left_out": left_out} if "boards" in entry else entry)
    return found
