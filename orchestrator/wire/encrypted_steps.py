"""The steps of a round under CKKS (privacy/ckks.py has why they protect): what gateway, nodes and key holder send each other."""

from dataclasses import dataclass, field
from typing import Dict

from orchestrator.wire.message import Message, part, raw, table, text, whole


@dataclass(frozen=True)
class KeysAsked(Message):
    """Of the key holder, with "context"; what is too much or too little, `SumPlan` says."""

    parties: int = field(metadata=whole())
    """As many as there will be in the sum at most."""
    size: int = field(metadata=whole())
    """Values of the vectors."""


@dataclass(frozen=True)
class KeysMade(Message):
    """The key holder's answer, and what nodes get of it with the round; the public keys themselves are a tensor."""

    journal: bytes = field(metadata=raw())
    """Names what the key holder remembers its sums in."""
    signature: bytes = field(metadata=raw())
    """By the key holder's long-term key, under the public keys, the attempt and the journal."""
    credential: bytes = field(metadata=raw())
    """The certificate, or bare public key, of that long-term key."""


@dataclass(frozen=True)
class Vouched(Message):
    """A node's answer to "encrypted", and what the key holder gets of it: what it vouches for of vector and ciphertext."""

    digest: bytes = field(metadata=raw())
    """SHA-256 of the ciphertext."""
    masked_digest: bytes = field(metadata=raw())
    """SHA-256 of the masked vector."""
    check: bytes = field(metadata=raw())
    """What the ciphertext's plaintext hashes to."""
    signature: bytes = field(metadata=raw())
    """By the node's long-term key, under the three, the session and what was announced."""
    credential: bytes = field(metadata=raw())
    """The certificate, or bare public key, of that long-term key."""


@dataclass(frozen=True)
class Terms(Message):
    """Of the key holder, the first message with "decrypt": what a sum has to answer to."""

    told: bytes = field(metadata=raw())
    """Digest of what was announced to all nodes."""
    summands: Dict[str, Vouched] = field(metadata=table(part(Vouched)))
    """By node."""


@dataclass(frozen=True)
class Ciphertext(Message):
    """Of the key holder, each further message with "decrypt"; the ciphertext is a tensor."""

    party: str = field(metadata=text())
    """The node whose it is."""
