"""A sum under CKKS: nodes encrypt, the aggregator adds without reading, a key holder who is somebody else decrypts.

    key holder   KeyHolder(plan)            public_context() to everybody, signed; decrypts sums, never a single vector
    node         Encryptor(public)          encrypt(vector), and sign_summand for the key holder
    aggregator   Adder(public)              add(ciphertext) for each node, total() to the key holder

Values are rounded to the plan's grid before they are encrypted and the sum is rounded to it after, so the sum is exact and
nothing of CKKS's error leaves the key holder: with that error, decryptions give the key away (Li and Micciancio 2021,
https://eprint.iacr.org/2020/1533). Half a step is at least 94 times NOISE_STD sqrt(parties), so that a value is rounded the
wrong way with probability 2^-193 at most.

What is assumed. Key holder and aggregator do not work together: with the key and a node's ciphertext, its vector is read.
`decrypt_sum` further assumes that the aggregator is honest but curious: no signature over single ciphertexts says what an
alleged sum was added up from. `decrypt_sum_of` does not: it takes the ciphertexts, compares them with what the nodes signed
and adds them again, for every node's upload once more on the key holder's line. Nodes have to know that the public context
is the key holder's, from a signature or its key id; whoever can replace it reads everything.

What is not covered. A node that encrypts nonsense, or a block that is no honest encryption: CKKS is safe against chosen
plaintexts, not chosen ciphertexts. The sum itself, who took part, and what two sums over nearly the same nodes differ in.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Set, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.ckks_blocks import (
    SLOTS,
    BlockFormat,
    Parameters,
    decrypt_block,
    encrypt_block,
    key_id,
    load_public,
    make_keys,
    public_bytes,
)
from orchestrator.privacy.secure_sum import LEAST_SURVIVORS, Sign, Verify

MODULI_BITS = (60, 60)
"""One modulus for the ciphertext and one for encryption: room for sums, none for products."""

MOST_PARTIES = 1000
RANGE_BITS, STEP_BITS, MOST_SCALE_BITS = 58, 23, 50
"""Of the 60 bits of a modulus: the largest sum may use 58 with its sign, and a step of the grid has to be worth at least 23."""

_PLAN = struct.Struct("<4sIIdd")
_CIPHERTEXT = struct.Struct("<4s32sI")
_PLAN_MAGIC, _CIPHERTEXT_MAGIC = b"EWK1", b"EWC1"
_MOST_CONTEXT_BYTES = 1 << 20


@dataclass(frozen=True)
class SumPlan:
    """What is summed: `size` values of at most `bound` from at most `parties`, on a grid of `step` (1 for integers).

    parties * bound / step may be at most 2^35. Raises PrivacyError beyond, where a sum would wrap around or be inexact.
    """

    size: int
    parties: int
    bound: float
    step: float

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1 << 28 or not LEAST_SURVIVORS <= self.parties <= MOST_PARTIES:
            raise PrivacyError(
                f"a sum of {self.size} values from {self.parties} parties; accepted are 1 to {1 << 28} values "
                f"and {LEAST_SURVIVORS} to {MOST_PARTIES} parties"
            )
        if not (0 < self.step <= self.bound and math.isfinite(self.bound)):
            raise PrivacyError(f"a bound of {self.bound:g} with steps of {self.step:g}; accepted is 0 < step <= bound")
        if self.step * 2.0**self.scale_bits < 1 << STEP_BITS or self.scale_bits < 1:
            raise PrivacyError(
                f"{self.parties} parties with values up to {self.bound:g} in steps of {self.step:g} make "
                f"2^{math.log2(self.parties * self.bound / self.step):.1f} steps; CKKS sums are exact to "
                f"2^{RANGE_BITS - STEP_BITS}: take a coarser step or a smaller bound"
            )

    @property
    def scale_bits(self) -> int:
        """The largest scale, a power of two, under which no sum wraps around. 40 where parties * bound is 2^18."""
        return min(MOST_SCALE_BITS, RANGE_BITS - math.ceil(math.log2(self.parties * self.bound)))

    @property
    def parameters(self) -> Parameters:
        return Parameters(MODULI_BITS, self.scale_bits)

    @property
    def blocks(self) -> int:
        return -(-self.size // SLOTS)

    @property
    def ciphertext_bytes(self) -> int:
        return _CIPHERTEXT.size + self.blocks * self.parameters.block_bytes

    def to_grid(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.rint(values / self.step) * self.step)


class Summand(NamedTuple):
    """What a node vouches for: in this session, under this key, its ciphertext has this SHA-256."""

    party: str
    digest: bytes
    signature: bytes


def summand_message(key: bytes, session: bytes, digest: bytes, told: bytes) -> bytes:
    parts = (hashlib.sha256(session).digest(), hashlib.sha256(told).digest(), key, digest)
    return b"edgeward summand" + b"".join(parts)


def sign_summand(party: str, ciphertext: bytes, session: bytes, sign: Sign, told: bytes = b"") -> Summand:
    """`session` names federation, run, round and attempt. A node signs one ciphertext in it.

    `told`: digest of what all nodes must have been told alike (secure_sum.digest_of_told); a sum is opened only over those of
    whom it is the same.
    """
    digest = hashlib.sha256(ciphertext).digest()
    _, key, _ = _CIPHERTEXT.unpack_from(ciphertext)
    return Summand(party, digest, sign(summand_message(key, session, digest, told)))


def context_message(session: bytes, public_context: bytes, least: int, checked: bool) -> bytes:
    """What a key holder signs for nodes: these keys are its own, for this session; it opens no sum over fewer than `least`.

    checked: and none it did not add up itself.
    """
    rules = struct.pack("<I?", least, checked)
    return b"edgeward key holder" + hashlib.sha256(session).digest() + hashlib.sha256(public_context).digest() + rules


def most_bits(parties: int) -> int:
    """The most bits, sign included and 32 at most, of whole numbers of which `parties` add up exactly."""
    return min(32, RANGE_BITS - STEP_BITS + 1 - math.ceil(math.log2(parties)))


class _Public:
    """Either side that has the public context only."""

    def __init__(self, public_context: bytes) -> None:
        if len(public_context) < _PLAN.size or len(public_context) > _MOST_CONTEXT_BYTES:
            raise WireError(f"a public CKKS context of {len(public_context)} bytes")
        magic, size, parties, bound, step = _PLAN.unpack_from(public_context)
        if magic != _PLAN_MAGIC:
            raise WireError("these bytes are no public CKKS context of Edgeward")
        self.plan = SumPlan(size, parties, bound, step)
        self.key_id = key_id(public_context)
        self._context = load_public(public_context[_PLAN.size :], self.plan.parameters)
        self._format = BlockFormat(self._context, encrypt_block(self._context, np.zeros(SLOTS)))


class Encryptor(_Public):
    """A node's side. Raises PrivacyError for a context with a secret key in it, WireError for one that is none."""

    def encrypt(self, vector: np.ndarray) -> bytes:
        """float64 (size,) -> ciphertext. Raises PrivacyError for another shape, or a value beyond the plan's bound."""
        plan = self.plan
        if vector.shape != (plan.size,):
            raise PrivacyError(f"a vector of shape {vector.shape}, the sum has {plan.size} values")
        if not np.all(np.abs(vector) <= plan.bound):  # false for NaN, too
            raise PrivacyError(f"a value beyond {plan.bound:g}, the bound of this sum: clip before encrypting")
        values = plan.to_grid(np.asarray(vector, np.float64))
        parts = [_CIPHERTEXT.pack(_CIPHERTEXT_MAGIC, self.key_id, 1)]
        for start in range(0, plan.size, SLOTS):
            parts.append(self._format.dump(encrypt_block(self._context, values[start : start + SLOTS])))
        return b"".join(parts)


class Adder(_Public):
    """The aggregator's side. Holds the sum and the block it adds: memory does not grow with the number of parties."""

    def __init__(self, public_context: bytes) -> None:
        super().__init__(public_context)
        self._total: List[Any] = []
        self.count = 0

    def add(self, ciphertext: bytes) -> None:
        """Takes one node's ciphertext in, whole or not at all. Raises WireError or PrivacyError for one that does not fit."""
        if self.count == self.plan.parties:
            raise PrivacyError(
                f"{self.count} summands are in already, the plan has room for no more: sums could wrap around"
            )
        vectors = self._vectors(ciphertext)  # all of them, before any is added
        if not self._total:
            self._total = vectors
        else:
            for total, vector in zip(self._total, vectors):
                total.add_(vector)
        self.count += 1

    def check(self, ciphertext: bytes) -> None:
        """Raises what `add` would raise for it."""
        self._vectors(ciphertext)

    def _vectors(self, ciphertext: bytes) -> List[Any]:
        if _check_ciphertext(self.plan, self.key_id, ciphertext) != 1:
            raise PrivacyError("a ciphertext that is a sum already: each node sends its own vector")
        return [self._format.load(block) for block in _blocks(self.plan, ciphertext)]

    def total(self) -> bytes:
        """The encrypted sum of what was added, as long as one node's ciphertext."""
        if not self.count:
            raise PrivacyError("no ciphertext was added yet")
        header = _CIPHERTEXT.pack(_CIPHERTEXT_MAGIC, self.key_id, self.count)
        return b"".join([header, *(self._format.dump(vector) for vector in self._total)])


class KeyHolder:
    """Makes the keys, and is the only one who has the secret. Must not be the aggregator. Its keys live as long as it does."""

    def __init__(self, plan: SumPlan, least: int = LEAST_SURVIVORS) -> None:
        """`least`: a sum over fewer parties is not opened; three at least."""
        self.plan, self._least = plan, max(least, LEAST_SURVIVORS)
        self._context = make_keys(plan.parameters)
        self._public = _PLAN.pack(_PLAN_MAGIC, plan.size, plan.parties, plan.bound, plan.step) + public_bytes(
            self._context
        )
        self.key_id = key_id(self._public)
        self._format = BlockFormat(self._context, encrypt_block(self._context, np.zeros(SLOTS)))
        self._opened: Set[bytes] = set()

    def public_context(self) -> bytes:
        return self._public

    def decrypt_sum(
        self, total: bytes, session: bytes, summands: Iterable[Summand], verify: Verify, told: bytes = b""
    ) -> np.ndarray:
        """float64 (size,), on the grid: the sum the aggregator says is over these summands. Takes its word for that.

        Refuses fewer than `least` parties, a signature that is not theirs, and a second sum of one session.
        """
        parties = self._check_summands(session, summands, verify, told)
        count = _check_ciphertext(self.plan, self.key_id, total)
        if count != len(parties):
            raise PrivacyError(f"a sum of {count} ciphertexts with the signatures of {len(parties)} nodes")
        return self._open(total, session, count)

    def decrypt_sum_of(
        self,
        ciphertexts: Iterable[bytes],
        session: bytes,
        summands: Iterable[Summand],
        verify: Verify,
        told: bytes = b"",
    ) -> np.ndarray:
        """float64 (size,), on the grid: the sum of these ciphertexts, each signed by one of the parties, added here.

        Takes nobody's word: a ciphertext nobody signed, one that is missing and one that comes twice are refused.
        """
        checked = self.check(session, summands, verify, told)
        for ciphertext in ciphertexts:
            checked.add(ciphertext)
        return checked.open()

    def check(self, session: bytes, summands: Iterable[Summand], verify: Verify, told: bytes = b"") -> "CheckedSum":
        """Begins `decrypt_sum_of`, for ciphertexts that come one at a time."""
        parties = self._check_summands(session, summands, verify, told)
        return CheckedSum(Adder(self._public), parties, lambda total, count: self._open(total, session, count))

    def _check_summands(
        self, session: bytes, summands: Iterable[Summand], verify: Verify, told: bytes
    ) -> Dict[bytes, str]:
        """digest -> party, of all that are what they say."""
        found: Dict[bytes, str] = {}
        for summand in summands:
            if summand.party in found.values() or summand.digest in found:
                raise PrivacyError(f"{summand.party} is in the sum twice, or has the ciphertext of another")
            message = summand_message(self.key_id, session, summand.digest, told)
            if not verify(summand.party, message, summand.signature):
                raise PrivacyError(
                    f"the ciphertext of {summand.party} is not signed by {summand.party} for this sum and key, or it was told "
                    "another model than the others"
                )
            found[summand.digest] = summand.party
        if len(found) < self._least:
            raise PrivacyError(
                f"a sum over {len(found)} parties shows too much of what each of them sent: {self._least} are needed"
            )
        self._check_unopened(session)
        return found

    def _check_unopened(self, session: bytes) -> None:
        if session in self._opened:
            raise PrivacyError("a sum of this session was decrypted already: two of them differ in single vectors")

    def _open(self, total: bytes, session: bytes, count: int) -> np.ndarray:
        self._check_unopened(session)
        vectors = [self._format.load(block) for block in _blocks(self.plan, total)]
        self._opened.add(session)  # before anything is decrypted: a refusal is an answer, too
        values = np.concatenate([self.plan.to_grid(decrypt_block(self._context, vector)) for vector in vectors])
        padding = values[self.plan.size :]
        if not np.all(np.abs(values) <= count * self.plan.bound) or np.any(padding):
            raise PrivacyError(
                "this is no sum of such vectors under this key: it was changed, or encrypted for another key"
            )
        return values[: self.plan.size]


class CheckedSum:
    """A sum its key holder adds up itself, of one ciphertext from each party that signed one."""

    def __init__(self, adder: Adder, parties: Dict[bytes, str], open_total: Callable[[bytes, int], np.ndarray]) -> None:
        self._adder, self._waiting, self._open_total = adder, dict(parties), open_total

    @property
    def missing(self) -> Tuple[str, ...]:
        """Parties whose ciphertext is not in."""
        return tuple(sorted(self._waiting.values()))

    def add(self, ciphertext: bytes) -> None:
        """Raises PrivacyError for one that nobody signed, that was in already, or that is no ciphertext under this key."""
        party = self._waiting.pop(hashlib.sha256(ciphertext).digest(), None)
        if party is None:
            raise PrivacyError("a ciphertext that no node of this sum signed, or the same one again")
        try:
            self._adder.add(ciphertext)
        except (PrivacyError, WireError) as error:
            raise PrivacyError(f"the ciphertext of {party}: {error}") from error

    def open(self) -> np.ndarray:
        """float64 (size,), on the grid. Raises PrivacyError while one is missing."""
        if self._waiting:
            raise PrivacyError(f"the ciphertext of {', '.join(self.missing)} is missing")
        return self._open_total(self._adder.total(), self._adder.count)


def _check_ciphertext(plan: SumPlan, key: bytes, ciphertext: bytes) -> int:
    """How many vectors it says are in it."""
    if len(ciphertext) != plan.ciphertext_bytes:
        raise WireError(f"a ciphertext of {len(ciphertext)} bytes; {plan.size} values take {plan.ciphertext_bytes}")
    magic, found, count = _CIPHERTEXT.unpack_from(ciphertext)
    if magic != _CIPHERTEXT_MAGIC:
        raise WireError("these bytes are no CKKS ciphertext of Edgeward")
    if found != key:
        raise PrivacyError(
            f"encrypted for key {found.hex()[:16]}, this sum's is {key.hex()[:16]}: fetch the public context anew"
        )
    return int(count)


def _blocks(plan: SumPlan, ciphertext: bytes) -> Iterator[bytes]:
    step = plan.parameters.block_bytes
    return (ciphertext[start : start + step] for start in range(_CIPHERTEXT.size, len(ciphertext), step))
