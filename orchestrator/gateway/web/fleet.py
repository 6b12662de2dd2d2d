"""Boards that are on a network themselves: who is there, what each says, and whether it was that board that said it.

Everything here came over a broker that may lie. A record counts as the board's only where its owner's folder was given and says
so; the rest is shown as unchecked. Boards and bytes are bounded, no matter who sends.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Protocol

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
_OF_A_MODEL = ("name", "slot", "signature", "state", "inferences", "errors", "psi")
"""Fields that say nothing of the next model."""
_HALF_OF_NUMBERS = 2**31
_BOOTS = 16
"""Of a board that are remembered, the present one among them."""


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


@dataclass
class _Boot:
    """What a board said from one start to the next."""

    seq: int = 0
    t_us: int = 0
    model: Optional[str] = None
    live: bool = False
    """Whether a record of it came that the broker had not kept."""
    about: Dict[str, Any] = field(default_factory=dict)
    measured: Dict[str, Any] = field(default_factory=dict)
    _informed: bool = False

    def take(self, record: Dict[str, Any]) -> None:
        """The next record. An `info` is whole: what it leaves out the board does not have any more. So are `metrics`."""
        self.seq, self.t_us = record["seq"], record["t_us"]
        if record["kind"] != "error" and record["model"] != self.model:  # that of an error is of the model it refused
            self.model = record["model"]
            self.about, self.measured = _without_model(self.about), _without_model(self.measured)
        self.about.pop("schema", None)
        if record["v"] != SCHEMA:
            self.about, self.measured, self._informed = {"schema": record["v"]}, {}, False
        elif record["kind"] == "info":
            self.about, self._informed = _fields_of(record), True
        elif record["kind"] == "metrics":
            self.measured = _fields_of(record)
        elif record["kind"] == "drift":
            self.measured.pop("psi", None)
            self.measured.update(_fields_of(record))
        else:
            self.about.update(_fields_of(record))

    def fill(self, record: Dict[str, Any]) -> None:
        """An earlier record: what the broker had kept may come after what the board says now. No second one is of use."""
        if self._informed or record["kind"] != "info" or record["v"] != SCHEMA or "schema" in self.about:
            return
        fields = _fields_of(record)
        self.about = {**(fields if record["model"] == self.model else _without_model(fields)), **self.about}
        self._informed = True


class Seen:
    """One board. `secret` stands for the one its records are checked by; None where they are not."""

    def __init__(self, name: str, secret: Optional[str], now: float) -> None:
        self.name, self.secret = name, secret
        self.spoke_at = now
        self.announced = False
        """Whether anything came on its `presence`, where a monitor writes nothing."""
        self.foreign = self.malformed = 0
        self.presence_message = b""  # to be checked by a secret that comes later
        self._presence, self._since, self._since_known = UNHEARD, now, False
        self._verified: Optional[bool] = None
        self._heard_at: Optional[float] = None
        self._kept = False
        self._boot = ""
        self._boots: Dict[str, _Boot] = {}

    def left(self, now: float, retained: bool) -> None:
        self._change(LEFT, now, retained)

    def unheard(self, now: float) -> None:
        """Until the broker says again who is there: it may have begun again, and know nothing of who left meanwhile."""
        self._presence, self._since, self._since_known = UNHEARD, now, False
        self.presence_message = b""

    def take(self, record: Dict[str, Any], presence: bool, now: float, retained: bool) -> None:
        """A record that passed whatever check there is."""
        if presence:
            self._change(HERE, now, retained)
        name = record["boot"]
        if self.secret is not None and not self._of_now(record, retained):
            if name in self._boots:
                self._boots[name].fill(record)
            else:
                self._remember(name).take(record)  # shown once the board speaks in that boot
            return
        self._verified = self.secret is not None
        if not retained:
            self._heard_at = now
        self._kept = retained
        if self.secret is None and name != self._boot:
            self._boots.clear()
        self._boot = name
        boot = self._remember(name)
        boot.live = boot.live or not retained
        boot.take(record)

    def _of_now(self, record: Dict[str, Any], retained: bool) -> bool:
        """Whether a record is the newest of its board. A broker can show any record again, also of a boot that is over: it
        counts once, and its boot is the present one until another speaks with a number that was not heard of that before."""
        if record["boot"] == self._boot:
            return _later(record, self._boots[self._boot])
        known = self._boots.get(record["boot"])
        if known is not None:
            return not retained and _later(record, known)
        return not (retained and self._boot and self._boots[self._boot].live)

    def _remember(self, name: str) -> _Boot:
        """As the one of which there was word last."""
        boot = self._boots[name] = self._boots.pop(name, _Boot())
        while len(self._boots) > _BOOTS:
            del self._boots[next(other for other in self._boots if other != self._boot)]
        return boot

    def _change(self, presence: str, now: float, retained: bool) -> None:
        if presence != self._presence:
            self._presence, self._since, self._since_known = presence, now, not retained

    def shown(self, listening: bool, fleet: Optional[bool]) -> Dict[str, Any]:
        boot = self._boots.get(self._boot, _Boot())
        return {
            "board": self.name,
            "of_fleet": fleet,
            "verified": self._verified,
            "presence": self._presence if listening else UNKNOWN,
            "since": self._since if listening and self._presence != UNHEARD else None,
            "since_known": self._since_known,
            "heard_at": self._heard_at,
            "kept": self._kept,
            "model": boot.model,
            "uptime_s": boot.t_us / 1e6 if self._boot else None,
            "foreign": self.foreign,
            "malformed": self.malformed,
            **boot.about,
            **boot.measured,
        }


def _later(record: Dict[str, Any], boot: _Boot) -> bool:
    return 0 < (record["seq"] - boot.seq) % 2**32 < _HALF_OF_NUMBERS


def _without_model(fields: Dict[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in _OF_A_MODEL}


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

    def unheard(self, now: float) -> None:
        """The connection to the broker began, or ended: nothing is known of who is there until it says so."""
        for seen in self._seen.values():
            seen.unheard(now)

    def take(self, name: str, presence: bool, message: bytes, now: float, retained: bool = False) -> None:
        """A message on a board's topic `presence`, or else `record`. Of a monitor's board there are records only, unmarked."""
        if name not in self._seen and not self._place_for(name, presence, message, now):
            return
        seen = self._seen[name]
        seen.announced = seen.announced or presence
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
            longest = min(
                strangers, key=lambda seen: (seen.announced, seen.spoke_at)
            )  # of those nobody announced first
            away = now - longest.spoke_at >= _AWAY_S and (presence or not longest.announced)
            if not (away or (presence and not longest.announced)):
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
    found: List[Dict[str, Any]] = []
    most = NEWEST_BOARDS
    for entry in rollouts:
        if "boards" not in entry:
            found.append(entry)
            continue
        boards = entry["boards"]
        found.append({**entry, "boards": boards[:most], "left_out": max(0, len(boards) - most)})
        most = OLDER_BOARDS
    return found
