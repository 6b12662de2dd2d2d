"""What a gateway says to its nodes beside the steps of secure rounds: tasks, rounds, the end of a run, names in use."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, List

from orchestrator.wire.message import MOST_WHOLE, Message, always, data, entries, real, run, table, text, whole

_DIGEST = text(64, 64)


@dataclass(frozen=True)
class Kinded(Message):
    """How every message begins."""

    kind: str = field(metadata=text())


@dataclass(frozen=True)
class Heading(Kinded):
    """How every transfer begins, a gateway's or a node's."""

    run: str = field(metadata=run())


@dataclass(frozen=True)
class OfRun(Message):
    """A message that is about a run."""

    run: str = field(metadata=run())


@dataclass(frozen=True)
class TaskAnnounced(OfRun):
    KIND: ClassVar[str] = "task"
    task: Dict[str, Any] = field(metadata=data())
    """As declared; wire/task.py reads it."""
    certificates: List[Any] = field(default_factory=list, metadata=entries())
    """The log the run goes by; wire/transparency.py reads it. Empty without identities."""


ANY = whole(-MOST_WHOLE - 1)
"""Which rounds and attempts there are, the task says: who is asked for others abstains, and says so."""


@dataclass(frozen=True)
class OfRound(Message):
    """A message that is about a round, or about an answer to it."""

    round: int = field(metadata=ANY)
    """0 for statistics, 1 and so on for training or an analysis."""


@dataclass(frozen=True)
class RoundAnnounced(OfRun):
    """How the message of a round begins; what else it says is of its kind."""

    KIND: ClassVar[str] = "round"
    round: int = field(metadata=ANY)


@dataclass(frozen=True)
class WeightsNamed(Message):
    """Of a round's weights, by digest, where they may travel as a change (wire/weight_step.py); nothing where they never do."""

    model: str = field(default="", metadata=_DIGEST)
    """Of the weights the round is about."""
    since: str = field(default="", metadata=text(1, 64))
    """Of those the change begins from, where one came."""


@dataclass(frozen=True)
class ClipAnnounced(Message):
    """With a round, where the bound on updates follows their norms (privacy/adaptive_clip.py)."""

    clip_norm: float = field(metadata=real(1e-30, 1e12))


@dataclass(frozen=True)
class LastCounted(Message):
    """With a round of SCAFFOLD (rounds/scaffold.py)."""

    counted: Dict[str, int] = field(metadata=table(whole()))
    """By node: the newest round whose update by it counted."""


ASSIGNED = "assigned"
"""Tensor of a round: the model of another node that its receiver is to score (rounds/fuala.py)."""


@dataclass(frozen=True)
class ModelAssigned(Message):
    """With a round in which nodes score each other's models. Whose it is, is not said."""

    assigned: str = field(metadata=_DIGEST)
    """Of that model."""


@dataclass(frozen=True)
class RunOver(OfRun):
    KIND: ClassVar[str] = "finished"
    reason: str = field(default="", metadata=always(text()))
    """Why, where it failed."""


@dataclass(frozen=True)
class NameTaken(OfRun):
    """To all nodes of one name: one of them is refused."""

    KIND: ClassVar[str] = "taken"
    instance: str = field(metadata=text())
    """Of that one."""
    at: float = field(default=0.0, metadata=always(real()))
    """When it was found, by the gateway's clock: so that each notice is another message."""
