"""The steps of a masked round (privacy/secure_sum.py has why they protect): what the gateway asks, and what a node answers.

All of them are read before anything private is opened. Whether keys, signatures and shares are the right ones is checked where
they are used.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple

from orchestrator.errors import WireError
from orchestrator.rounds.steps import KEYS
from orchestrator.wire.announcing import ANY, OfRound
from orchestrator.wire.message import Message, data, entries, flag, pair, part, raw, run, table, text, whole

NONCE_BYTES, COMMITMENT_BYTES = 32, 32


@dataclass(frozen=True)
class Attempt(OfRound):
    """At a round."""

    attempt: int = field(metadata=ANY)
    """Counted from 1; 0 for one that the round before prepared."""


@dataclass(frozen=True)
class AttemptOf(Message):
    """What a step, or an abstention, is of."""

    run: str = field(metadata=run())
    round: int = field(metadata=ANY)
    attempt: int = field(metadata=ANY)


@dataclass(frozen=True)
class Step(AttemptOf):
    """How the message of a step begins, and the answer to it."""

    KIND: ClassVar[str] = "step"
    step: str = field(metadata=text())


@dataclass(frozen=True)
class Asked(Message):
    """The step that a message asks; a round's message that names none asks for keys."""

    step: str = field(default=KEYS, metadata=text())


@dataclass(frozen=True)
class Keys(Message):
    """A node's public keys for one attempt: its answer to "keys", and what the others are shown of it."""

    channel: bytes = field(metadata=raw())
    """X25519: what others encrypt their shares for."""
    mask: bytes = field(metadata=raw())
    """X25519: what pairwise masks are made of."""
    signature: bytes = field(metadata=raw())
    """By the node's long-term key, under the two keys and the commitment."""
    credential: bytes = field(metadata=raw())
    """The certificate, or bare public key, of that long-term key."""
    commitment: bytes = field(default=b"", metadata=raw(COMMITMENT_BYTES, COMMITMENT_BYTES))
    """To the nonce it reveals where not all are neighbours; keys sent a round ahead have none."""


@dataclass(frozen=True)
class Form(Message):
    """The numbers that all parties of an attempt make their vectors with; privacy/vector_layout.py has their bounds."""

    bits: int = field(metadata=whole())
    """Of the ring the values are in."""
    parties: int = field(metadata=whole())
    units: int = field(metadata=whole())
    """Of privacy, of all parties together."""
    records: int = field(metadata=whole())
    """Of all parties together, as stated."""


@dataclass(frozen=True)
class Shares(Message):
    """Answered to "shares", and asked with "masked": shares of a node's two secrets, encrypted by it for a neighbour."""

    shares: Dict[str, bytes] = field(metadata=table(raw()))
    """By node: in an answer those for whom they are, in what is asked those from whom."""


# What the gateway asks


@dataclass(frozen=True)
class AllKeys(Message):
    """Asked with "reveal" and "shares"."""

    adverts: Dict[str, Keys] = field(metadata=table(part(Keys)))
    """By node: of all in the session."""


@dataclass(frozen=True)
class AllNonces(AllKeys):
    """Asked with "shares"."""

    nonces: Mapping[str, bytes] = field(default_factory=dict, metadata=table(raw()))
    """By node: what it revealed; empty where all are neighbours."""


@dataclass(frozen=True)
class SharesOf(Message):
    """In a round's message that asks for the vectors of few nodes at once: for each."""

    shares_of: Dict[str, Dict[str, Any]] = field(metadata=table(data()))
    """By node: what `Shares` reads."""


@dataclass(frozen=True)
class Survivors(Message):
    """Asked with "confirm"."""

    survivors: List[str] = field(metadata=entries())
    """Nodes whose vectors are in the sum; what is no name among them, the party refuses."""


@dataclass(frozen=True)
class Signatures(Message):
    """Asked with "unmask"."""

    signatures: Dict[str, bytes] = field(metadata=table(raw()))
    """By node: under the list of survivors."""
    foreseen: bool = field(default=False, metadata=flag())
    """Whether they are those that came with the vectors."""


@dataclass(frozen=True)
class NextKeys(Message):
    """Beside them: keys for the next round. Apart, since a node that refuses these still helps to open the sum."""

    next: Dict[str, Keys] = field(metadata=table(part(Keys)))
    """By node."""


# What a node answers, beside `Keys` and `Shares`


@dataclass(frozen=True)
class Nonce(Message):
    """To "reveal"."""

    nonce: bytes = field(metadata=raw(NONCE_BYTES, NONCE_BYTES))


@dataclass(frozen=True)
class Weight(Message):
    """With the vector: of how much it is, as stated."""

    records: int = field(metadata=whole())
    units: int = field(metadata=whole())
    """Of privacy."""

    def check(self) -> None:
        """WireError for a vector of nothing."""
        for what, count in self.written().items():
            if not count:
                raise WireError(f"a masked vector of {count} {what}")


@dataclass(frozen=True)
class Expectation(Message):
    """With the vector: what may save a step, and what prepares the next round."""

    foreseen: Optional[bytes] = field(default=None, metadata=raw())
    """A signature under those whom the node expects in the sum; none where that must be seen first."""
    next: Optional[Keys] = field(default=None, metadata=part(Keys))
    """For the next round."""


@dataclass(frozen=True)
class Signature(Message):
    """To "confirm"."""

    signature: bytes = field(metadata=raw())
    """Under the list of survivors."""


@dataclass(frozen=True)
class Opening(Message):
    """To "unmask"."""

    shares: Dict[str, Tuple[bytes, bytes]] = field(metadata=table(pair()))
    """By node: of which of its two secrets, and the share."""
    next: Optional[Shares] = field(default=None, metadata=part(Shares))
    """For the next round."""
