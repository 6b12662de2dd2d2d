"""What the parties of one secure sum agree on: the session, everybody's keys, and what they sign (privacy/secure_sum.py)."""

import hashlib
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Callable, Iterable, Mapping

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestrator.wire.secure_steps import NONCE_BYTES, Keys

LEAST_SURVIVORS = 3
"""A sum of one is that party's vector, and of two each knows the other's."""

MODEL = ("weights", "mean", "std")
"""Names of what a round starts from, which all parties must have got alike."""

CERTIFICATES = "certificates"
"""Name, beside these, of what stands for the certificate log that all parties must have been shown alike."""

Sign = Callable[[bytes], bytes]
Verify = Callable[[str, bytes, bytes], bool]
"""(party, message, signature) -> whether that party signed it."""


NO_NONCES: Mapping[str, bytes] = MappingProxyType({})
"""Of a complete graph."""


@dataclass(frozen=True)
class Session:
    """What all parties of one sum agree on before it begins. id: names federation, run, round and attempt, never used twice."""

    id: bytes
    degree: int  # neighbours of each party, or all others where there are fewer
    least: int = LEAST_SURVIVORS  # a sum over fewer is not opened
    colluding: int = 0  # parties that may help the aggregator

    def key(self, secret: bytes, purpose: bytes) -> bytes:
        """32 bytes for one purpose of this session (HKDF-SHA256): nothing of another session comes out the same."""
        return HKDF(hashes.SHA256(), 32, salt=self.id, info=b"edgeward secure sum/" + purpose).derive(secret)

    def among(
        self, announced: bytes, adverts: Iterable["Advert"], nonces: Mapping[str, bytes] = NO_NONCES
    ) -> "Session":
        """The session of those with the same announcement (`digest_of_announced`), keys and nonces: only their masks cancel."""
        keys = counted(*(part for a in sorted(adverts) for part in (a.party.encode(), a.channel_key, a.mask_key)))
        drawn = counted(*(part for n in sorted(nonces) for part in (n.encode(), nonces[n])))
        return replace(self, id=hashlib.sha256(b"edgeward told\0" + self.id + counted(announced, keys, drawn)).digest())

    def majority(self, parties: int) -> int:
        """So many of `parties` that of two such groups at least one honest party is in both."""
        return (parties + self.colluding) // 2 + 1


@dataclass(frozen=True, order=True)
class Advert:
    """A party's public keys for one session, signed. commitment: to its nonce, 32 bytes; none in keys sent a round ahead."""

    party: str
    channel_key: bytes
    mask_key: bytes
    signature: bytes
    commitment: bytes = b""

    @classmethod
    def of(cls, party: str, keys: Keys) -> "Advert":
        """As it travelled."""
        return cls(party, keys.channel, keys.mask, keys.signature, keys.commitment)

    def signed(self, session: Session) -> bytes:
        parts = (self.party.encode(), self.channel_key, self.mask_key, *([self.commitment] if self.commitment else []))
        return b"edgeward keys" + session.id + counted(*parts)

    def commits_to(self, session: Session, nonce: bytes) -> bool:
        return len(nonce) == NONCE_BYTES and self.commitment == commitment_to(session, self.party, nonce)


def commitment_to(session: Session, party: str, nonce: bytes) -> bytes:
    """32 bytes that say nothing of a random nonce, and fit no other one, party or session."""
    return hashlib.sha256(b"edgeward nonce" + session.id + counted(party.encode(), nonce)).digest()


def session_id(federation: str, run: str, number: int, attempt: int) -> bytes:
    """32 bytes that name one attempt at one round, the same for all nodes and the gateway."""
    text = f"{federation}\0{run}\0{number}\0{attempt}".encode()
    return hashlib.sha256(b"edgeward session\0" + text).digest()


def digest_of_announced(task: str, form: Iterable[int], model: Mapping[str, np.ndarray]) -> bytes:
    """32 bytes. task: digest of task and graph; form: the numbers vectors are made with; model: what the round starts from."""
    tensors = (part for name in sorted(model) for part in (name.encode(), np.ascontiguousarray(model[name]).tobytes()))
    numbers = ",".join(str(number) for number in form)
    return hashlib.sha256(counted(task.encode(), numbers.encode(), *tensors)).digest()


_ANY_KEY = X25519PrivateKey.generate()


def usable_key(public: bytes) -> bool:
    """Whether a secret can be agreed on with this X25519 key: not with one of small order, or of another length."""
    try:
        _ANY_KEY.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return False
    return True


def survivors_message(session: Session, survivors: Iterable[str], foreseen: bool = False) -> bytes:
    kind = b"edgeward foreseen" if foreseen else b"edgeward survivors"
    return kind + session.id + counted(*(name.encode() for name in sorted(survivors)))


def counted(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
