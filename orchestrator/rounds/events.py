"""What can happen to a run, and what the coordinator wants done about it. All of it is plain data."""

from dataclasses import dataclass, fields
from typing import Any, Dict, Tuple, Type, Union

# Events: facts, journalled before anything is done about them. `at` is seconds on the gateway's clock.


@dataclass(frozen=True)
class Started:
    """The gateway began, or began again: deadlines run again, and a run that stopped for want of nodes goes on."""

    at: float


@dataclass(frozen=True)
class Joined:
    """A node holds the task and data that fits it."""

    at: float
    node: str
    records: int
    units: int = 0  # privacy units it trains on; 0 in journals older than that
    back: bool = False  # it had declined by its own word, and takes part after all


@dataclass(frozen=True)
class Left:
    """The broker saw the node's connection end."""

    at: float
    node: str


@dataclass(frozen=True)
class Arrived:
    """A node's update for a round, or its answer to one step of a secure round, is on the gateway's disk."""

    at: float
    node: str
    round: int
    digest: str
    weight: float
    step: str = ""
    attempt: int = 0
    prepared: bool = False  # it brought keys (or shares) for the next round along
    foreseen: bool = False  # it brought a signature under the survivors it expects


@dataclass(frozen=True)
class Declined:
    """A node will not take part in this run, for a reason it gives. code: the same for programs, such as "policy.unit"."""

    at: float
    node: str
    reason: str
    code: str = ""


@dataclass(frozen=True)
class Waits:
    """A node announced itself and cannot take part yet, for a reason it gives, such as its owner's word; "" when it is gone."""

    at: float
    node: str
    reason: str


@dataclass(frozen=True)
class Abstained:
    """A node takes no further part in this attempt at a secure round, for a reason it gives."""

    at: float
    node: str
    round: int
    attempt: int
    reason: str


@dataclass(frozen=True)
class Unopened:
    """Too many left for the round's sum to be opened: while those left follow the protocol, nobody will ever know it."""

    at: float
    round: int
    reason: str


@dataclass(frozen=True)
class Rated:
    """Whether a node may be selected: `objection` says why not (label, battery, silence, ...), empty when it may."""

    at: float
    node: str
    objection: str


@dataclass(frozen=True)
class Aggregated:
    """The round's result is on the gateway's disk; `stop` when it was good enough to need no further round."""

    at: float
    round: int
    stop: bool = False


@dataclass(frozen=True)
class Provided:
    """A higher gateway began this round; its weights are on the disk."""

    at: float
    round: int


@dataclass(frozen=True)
class Ended:
    """The higher gateway's run is over."""

    at: float


@dataclass(frozen=True)
class Regained:
    """The broker is in reach again, or the gateway itself at work again: nobody could answer for so many seconds."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Ticked:
    """Time passed; sent when a timer the coordinator asked for is due."""

    at: float


@dataclass(frozen=True)
class Compacted:
    """Stands in a journal for all that was before it, up to `at`.

    state: Coordinator.snapshot, members: Members.as_dict (rounds/members.py); both plain data.
    """

    at: float
    state: Dict[str, Any]
    members: Dict[str, Dict[str, Any]]


Event = Union[
    Started,
    Joined,
    Left,
    Arrived,
    Declined,
    Waits,
    Abstained,
    Unopened,
    Rated,
    Aggregated,
    Provided,
    Ended,
    Regained,
    Ticked,
    Compacted,
]
_EVENTS: Dict[str, Type[Any]] = {kind.__name__: kind for kind in Event.__args__}  # type: ignore[attr-defined]


def event_to_dict(event: Event) -> Dict[str, Any]:
    return {"event": type(event).__name__, **vars(event)}


def event_from_dict(data: Dict[str, Any]) -> Event:
    kind = _EVENTS[data["event"]]
    event: Event = kind(**{f.name: data[f.name] for f in fields(kind) if f.name in data})  # older journals lack some
    return event


# Actions: all are idempotent, so that doing them again after a crash is harmless.


@dataclass(frozen=True)
class Announce:
    """Publish the round's weights to these nodes; in a secure round, what the step asks of each of them."""

    round: int
    nodes: Tuple[str, ...]
    step: str = ""
    attempt: int = 0


@dataclass(frozen=True)
class Aggregate:
    """Turn the stored updates of these nodes into the round's result, then report `Aggregated` (or `Unopened`)."""

    round: int
    nodes: Tuple[str, ...]
    attempt: int = 0


@dataclass(frozen=True)
class Wake:
    """Send `Ticked` at this time. The last one asked for counts."""

    at: float


@dataclass(frozen=True)
class Finish:
    """The run is complete: tell the nodes."""


@dataclass(frozen=True)
class Fail:
    """The run stops here. Unless `final`, the next `Started` continues it."""

    reason: str
    final: bool = False


Action = Union[Announce, Aggregate, Wake, Finish, Fail]
