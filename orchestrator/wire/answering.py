"""What a node sends its gateway beside the steps of secure rounds: updates, requests for weights, and word that it is out."""

from dataclasses import dataclass, field
from typing import ClassVar

from orchestrator.wire.announcing import RoundAnnounced
from orchestrator.wire.message import Message, always, made, real, text, whole
from orchestrator.wire.refusals import UNKNOWN, known_code
from orchestrator.wire.secure_steps import AttemptOf


@dataclass(frozen=True)
class WeightsWanted(RoundAnnounced):
    """Asks for a round with its weights whole: the node lacks those the change begins from."""

    KIND: ClassVar[str] = "whole"


@dataclass(frozen=True)
class Update(RoundAnnounced):
    """How an answer to a round begins. Units are read with wire/counted.py; the rest is of the task's kind."""

    KIND: ClassVar[str] = "update"
    records: int = field(metadata=whole())
    """It is of, as stated."""


@dataclass(frozen=True)
class Coded(Message):
    """How the values of an update are written (wire/codec.py)."""

    codec: str = field(default="", metadata=text(1, 40))


@dataclass(frozen=True)
class Scored(Message):
    """Beside an update: how well another node's model did on records held out here (privacy/scoring.py)."""

    score: float = field(metadata=real())
    """Mean loss, with noise where there is privacy."""
    assigned: str = field(metadata=text(64, 64))
    """Digest of the model."""


@dataclass(frozen=True)
class Abstention(AttemptOf):
    """From an attempt at a secure round."""

    KIND: ClassVar[str] = "abstain"
    code: str = field(default=UNKNOWN, metadata=always(made(known_code)))
    """Why, of wire/refusals.py; whatever else stands there is read as unknown."""
