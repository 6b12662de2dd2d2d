"""Sums of hidden vectors: a node adds a one-time pad, and the pad goes under CKKS to a key holder, who says the sum of the pads.

    key holder   KeyHolder(plan)     public_context() to everybody, signed; reads pads, and says their sum modulo 2^32
    node         Encryptor(public)   hide(vector) -> the masked vector for the gateway, its pad as a ciphertext; sign_summand
    gateway      Receiver(public)    check(answer) on arrival; open(masked vectors, sum of pads) -> the vectors' sum

Who reads what. The gateway alone: nothing, as long as CKKS holds. The key holder alone: nothing of the vectors, it sees pads,
which are uniform and independent of them; it must not get the masked vectors as well. (Rounds are broadcast: it can read the
models.) Gateway and key holder together: every node's vector. Pads are drawn again for every ciphertext, so masked vectors of two
attempts differ by noise as uniform as each of them.

Ciphertexts are not trusted. By changing one a sender could make the key holder decrypt numbers that depend on the secret key, or
on another node's pad. Each is therefore read by itself and has to pass before it counts: every value within GRID_STDS errors of
a whole number, none beyond the ring, the padding empty, and all of them, with a salt of 256 bits, hashing to the check its node
signed. So its sender knew what is added to the sum, and the sum tells nothing new of the key. Values are rounded before
they are added: with CKKS's error, decryptions give the key away (Li and Micciancio 2021, https://eprint.iacr.org/2020/1533). The
imaginary parts of decoded values have to be zero as well.

What remains: one bit for each pair of keys, whether all ciphertexts passed. It is said once all of them are in, keys serve one
sum, and new ones are made for each attempt (node/key_holder.py). What is not covered: the sum itself, who took part, what two
sums over nearly the same nodes differ in, a node that sends another vector than it should.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.ckks_blocks import (
    NOISE_STD,
    SLOTS,
    BlockFormat,
    Parameters,
    decrypt_block,
    encrypt_block,
    key_id,
    load_public,
    make_keys,
    public_bytes,
    turned,
)
from orchestrator.privacy.ring import from_ring, pack, to_ring, unpack, word_of
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.secure_session import LEAST_SURVIVORS, Sign
from orchestrator.privacy.secure_sum import Verify
from orchestrator.wire.sizes import MOST_CONTEXT_BYTES

MODULI_BITS = (60, 60)
"""One modulus for the ciphertext and one for encryption: nothing is multiplied."""

MOST_PARTIES = 1000
BITS = 32
"""Of a value, a pad and their sums: all of it is modulo 2^32."""

BOUND = 1 << (BITS - 1)
"""The largest magnitude of a value, and of a pad's."""

PARAMETERS = Parameters(MODULI_BITS, 27)
"""At scale 2^27 the largest pad uses 58 of the 60 bits of a modulus, and its sign."""

GRID_STDS = 30
TOLERANCE = GRID_STDS * NOISE_STD / 2.0**PARAMETERS.scale_bits
"""How far from a whole number a decrypted value may be: 3.2e-4, where anything that is no whole number is up to 0.5 away.

An honest value is beyond GRID_STDS errors with probability 4e-19 (their tails are exp(-sqrt(2) r)), so of honest sums of 1,000
vectors with 100,000 values one in 1e10 is refused."""

_SALT = 256 // BITS
_PLAN = struct.Struct("<4sII")
_CIPHERTEXT = struct.Struct("<4s32s")
_PLAN_MAGIC, _CIPHERTEXT_MAGIC = b"EWK2", b"EWC2"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class SumPlan:
    """What is summed: `size` whole numbers modulo 2^BITS, from at most `parties`."""

    size: int
    parties: int

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1 << 28 or not LEAST_SURVIVORS <= self.parties <= MOST_PARTIES:
            raise PrivacyError(
                f"a sum of {self.size} values from {self.parties} parties; accepted are 1 to {1 << 28} values "
                f"and {LEAST_SURVIVORS} to {MOST_PARTIES} parties"
            )

    @property
    def encrypted(self) -> int:
        """Values in a ciphertext: the pad's, then the salt's."""
        return self.size + _SALT

    @property
    def blocks(self) -> int:
        return -(-self.encrypted // SLOTS)

    @property
    def ciphertext_bytes(self) -> int:
        return _CIPHERTEXT.size + self.blocks * PARAMETERS.block_bytes

    @property
    def masked_bytes(self) -> int:
        return self.size * BITS // 8


class Hidden(NamedTuple):
    """A node's vector. masked: for the gateway, packed; ciphertext: of the pad, for the key holder; check: hash of the pad."""

    masked: bytes
    ciphertext: bytes
    check: bytes


class Summand(NamedTuple):
    """What a node vouches for: in this session, under this key, its ciphertext and its masked vector have these SHA-256, and the
    ciphertext's plaintext hashes to `check`."""

    party: str
    digest: bytes
    masked_digest: bytes
    check: bytes
    signature: bytes


def summand_message(key: bytes, session: bytes, summand: Summand, announced: bytes) -> bytes:
    """What a node signs. Raises WireError for an invalid digest: all of it has a fixed length, so nothing runs together."""
    digests = (summand.digest, summand.masked_digest, summand.check)
    if any(len(digest) != _DIGEST_BYTES for digest in digests):
        raise WireError(f"what {summand.party} vouches for are no digests")
    parts = (hashlib.sha256(session).digest(), hashlib.sha256(announced).digest(), key, *digests)
    return b"edgeward summand 2" + b"".join(parts)


def sign_summand(party: str, hidden: Hidden, session: bytes, sign: Sign, announced: bytes = b"") -> Summand:
    """`session` names federation, run, round and attempt, the same as in `Encryptor.hide`.

    `announced`: digest of what must have gone to all nodes alike (secure_sum.digest_of_announced); a sum is opened only over
    those of whom it is the same.
    """
    digests = (hashlib.sha256(hidden.ciphertext).digest(), hashlib.sha256(hidden.masked).digest())
    _, key = _CIPHERTEXT.unpack_from(hidden.ciphertext)
    bare = Summand(party, *digests, hidden.check, b"")
    return bare._replace(signature=sign(summand_message(key, session, bare, announced)))


def context_message(session: bytes, public_context: bytes, least: int, journal: bytes) -> bytes:
    """What a key holder signs for nodes: these keys are its own, for this session; it opens no sum over fewer than `least`.

    journal: names the record in which it notes what it opened (node/key_journal.py).
    """
    digests = (hashlib.sha256(part).digest() for part in (session, public_context, journal))
    return b"edgeward key holder 2" + b"".join(digests) + struct.pack("<I", least)


class _Public:
    """Either side that has the public context only."""

    def __init__(self, public_context: bytes) -> None:
        if len(public_context) < _PLAN.size or len(public_context) > MOST_CONTEXT_BYTES:
            raise WireError(f"a public CKKS context of {len(public_context)} bytes")
        magic, *numbers = _PLAN.unpack_from(public_context)
        if magic != _PLAN_MAGIC:
            raise WireError("these bytes are no public CKKS context of Edgeward")
        self.plan = SumPlan(*numbers)
        self.key_id = key_id(public_context)
        self.context = load_public(public_context[_PLAN.size :], PARAMETERS)
        self.format = BlockFormat(self.context, encrypt_block(self.context, np.zeros(SLOTS)))


class Encryptor(_Public):
    """A node's side. Raises PrivacyError for a context with a secret key in it, WireError for an invalid one."""

    def hide(self, vector: np.ndarray, party: str, session: bytes) -> Hidden:
        """Whole numbers (size,), under a pad that is drawn here and used once.

        Raises PrivacyError for another shape, numbers that are not whole, or one beyond the plan's bound.
        """
        plan = self.plan
        if vector.shape != (plan.size,) or vector.dtype.kind != "i":
            raise PrivacyError(
                f"a vector of shape {vector.shape}, {vector.dtype}; the sum has {plan.size} whole numbers"
            )
        if vector.min() < -BOUND or vector.max() >= BOUND:
            raise PrivacyError(f"a value beyond {BOUND}, the bound of this sum: clip before hiding")
        drawn = to_ring(SecureRandom().words(plan.encrypted), BITS)
        masked = pack(to_ring(vector, BITS) + drawn[: plan.size], BITS)
        values = from_ring(drawn, BITS).astype(np.float64)
        parts = [_CIPHERTEXT.pack(_CIPHERTEXT_MAGIC, self.key_id)]
        for start in range(0, plan.encrypted, SLOTS):
            parts.append(self.format.dump(encrypt_block(self.context, values[start : start + SLOTS])))
        return Hidden(masked, b"".join(parts), _check_of(self.key_id, session, party, drawn))


class Receiver(_Public):
    """The gateway's side: what it can see of an answer, and the sum in the end."""

    def check(self, masked: bytes, ciphertext: bytes, digests: Tuple[bytes, bytes]) -> None:
        """Raises WireError or PrivacyError for an answer no sum could be opened with.

        digests: SHA-256 of the ciphertext and of the masked vector, as its node signed them.
        """
        if (hashlib.sha256(ciphertext).digest(), hashlib.sha256(masked).digest()) != digests:
            raise WireError("an answer that is not what its node signed")
        if len(masked) != self.plan.masked_bytes:
            raise WireError(
                f"a masked vector of {len(masked)} bytes; {self.plan.size} values take {self.plan.masked_bytes}"
            )
        _load(self.plan, self.key_id, self.format, ciphertext)

    def open(self, masked: Iterable[bytes], pads: np.ndarray) -> np.ndarray:
        """int64 (size,): the sum of the vectors under these masks, in the ring. `pads`: words (size,), the sum of their pads."""
        plan = self.plan
        if pads.shape != (plan.size,) or pads.dtype != word_of(BITS):
            raise PrivacyError(f"the key holder's sum has {pads.size} values of {pads.dtype}, not {plan.size} words")
        total = np.zeros(plan.size, pads.dtype)
        for one in masked:
            try:
                total += unpack(one, BITS, plan.size)
            except ValueError as error:
                raise PrivacyError(f"a masked vector: {error}") from error
        return from_ring(total - pads, BITS)


class UnsoundSumError(PrivacyError):
    """Ciphertexts that are not what their nodes vouched for. Its text tells no more than that.

    faults: party -> what is wrong. It depends on the secret key, and is for the key holder's eyes only.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("no sum: not every ciphertext is what its node signed for; the key holder's log has more")
        self.faults = dict(faults)


class KeyHolder:
    """Makes a pair of keys, and is the only one who has the secret. Must not be the gateway. The keys serve one sum."""

    def __init__(self, plan: SumPlan, least: int = LEAST_SURVIVORS) -> None:
        """`least`: a sum over fewer parties is not opened; three at least."""
        self.plan, self._least = plan, max(least, LEAST_SURVIVORS)
        self.context = make_keys(PARAMETERS)
        self._public = _PLAN.pack(_PLAN_MAGIC, plan.size, plan.parties) + public_bytes(self.context)
        self.key_id = key_id(self._public)
        self.format = BlockFormat(self.context, encrypt_block(self.context, np.zeros(SLOTS)))
        self._used = False

    def public_context(self) -> bytes:
        return self._public

    def sum_pads(
        self,
        ciphertexts: Iterable[bytes],
        session: bytes,
        summands: Iterable[Summand],
        verify: Verify,
        announced: bytes = b"",
    ) -> np.ndarray:
        """Words (size,): the sum modulo 2^BITS of these pads, each signed by one of the parties.

        Takes nobody's word: a ciphertext nobody signed, one that is missing and one that comes twice are refused.
        """
        checked = self.check(session, summands, verify, announced)
        for ciphertext in ciphertexts:
            checked.add(ciphertext)
        return checked.open()

    def check(
        self, session: bytes, summands: Iterable[Summand], verify: Verify, announced: bytes = b""
    ) -> "CheckedSum":
        """Begins `sum_pads`, for ciphertexts that come one at a time.

        Raises PrivacyError for fewer than `least` parties or more than planned, for a signature that is not theirs, and once a
        sum under these keys was begun.
        """
        found = self._check_summands(session, summands, verify, announced)
        if self._used:
            raise PrivacyError("a sum under these keys was begun already: two of them differ in single vectors")
        self._used = True
        return CheckedSum(self, session, found)

    def _check_summands(
        self, session: bytes, summands: Iterable[Summand], verify: Verify, announced: bytes
    ) -> Dict[bytes, Summand]:
        """Digest of a ciphertext -> who signed it and for what."""
        found: Dict[bytes, Summand] = {}
        names = set()
        for summand in summands:
            if summand.party in names or summand.digest in found:
                raise PrivacyError(f"{summand.party} is in the sum twice, or has the ciphertext of another")
            message = summand_message(self.key_id, session, summand, announced)
            if not verify(summand.party, message, summand.signature):
                raise PrivacyError(
                    f"the ciphertext of {summand.party} is not signed by {summand.party} for this sum and key, or it was sent "
                    "another model than the others"
                )
            found[summand.digest] = summand
            names.add(summand.party)
        if len(found) < self._least:
            raise PrivacyError(
                f"a sum over {len(found)} parties shows too much of what each of them sent: {self._least} are needed"
            )
        if len(found) > self.plan.parties:
            raise PrivacyError(f"a sum over {len(found)} parties, its keys are for {self.plan.parties}")
        return found

    def _read(self, summand: Summand, session: bytes, ciphertext: bytes) -> Tuple[np.ndarray, str]:
        """(words (size,) of a pad, what is wrong with it). Both depend on the secret key: they are for `CheckedSum` only.

        Raises WireError or PrivacyError for what anybody can see to be no ciphertext under this key.
        """
        plan = self.plan
        blocks = _load(plan, self.key_id, self.format, ciphertext)
        values = self._decrypt(blocks)
        beside = np.abs(self._decrypt(self.format.load(turned(block)) for block in _blocks(ciphertext))).max()
        whole = np.rint(values)
        words = to_ring(np.clip(whole, -BOUND, BOUND).astype(np.int64), BITS)[: plan.encrypted]
        found = _check_of(self.key_id, session, summand.party, words)
        off = np.abs(values - whole).max()
        tests = {
            f"values off the grid, by up to {off:.2g}": off > TOLERANCE,
            f"values that are not real, by up to {beside:.2g}": beside > TOLERANCE,
            "values beyond the ring": np.abs(whole).max() > BOUND,
            "values beside the vector": np.any(whole[plan.encrypted :]),
            "another plaintext than its node signed for": found != summand.check,
        }
        return words[: plan.size], ", ".join(what for what, wrong in tests.items() if wrong)

    def _decrypt(self, blocks: Iterable[Any]) -> np.ndarray:
        """float64: the real parts of the blocks' slots, one after another."""
        return np.nan_to_num(np.concatenate([decrypt_block(self.context, block) for block in blocks]))


class CheckedSum:
    """A sum of pads, of one ciphertext from each party that signed one. What the secret key says is kept until all are in."""

    def __init__(self, holder: KeyHolder, session: bytes, summands: Dict[bytes, Summand]) -> None:
        self._holder, self._session, self._waiting = holder, session, dict(summands)
        self._total = np.zeros(holder.plan.size, word_of(BITS))
        self._faults: Dict[str, str] = {}

    @property
    def missing(self) -> Tuple[str, ...]:
        """Parties whose ciphertext is not in."""
        return tuple(sorted(summand.party for summand in self._waiting.values()))

    def add(self, ciphertext: bytes) -> None:
        """Raises PrivacyError for one that nobody signed, that was in already, or that is no ciphertext under this key."""
        summand = self._waiting.pop(hashlib.sha256(ciphertext).digest(), None)
        if summand is None:
            raise PrivacyError("a ciphertext that no node of this sum signed, or the same one again")
        try:
            pad, fault = self._holder._read(summand, self._session, ciphertext)
        except (PrivacyError, WireError) as error:
            raise PrivacyError(f"the ciphertext of {summand.party}: {error}") from error
        self._total += pad
        if fault:
            self._faults[summand.party] = fault

    def open(self) -> np.ndarray:
        """Words (size,). Raises PrivacyError while a ciphertext is missing, UnsoundSumError where one did not pass."""
        if self._waiting:
            raise PrivacyError(f"the ciphertext of {', '.join(self.missing)} is missing")
        if self._faults:
            raise UnsoundSumError(self._faults)
        return self._total


def _check_of(key: bytes, session: bytes, party: str, words: np.ndarray) -> bytes:
    """32 bytes that only who knows all these words can name. The salt among them hides the rest."""
    about = (hashlib.sha256(session).digest(), hashlib.sha256(party.encode()).digest(), key)
    return hashlib.sha256(b"edgeward pad" + b"".join(about) + pack(words, BITS)).digest()


def _load(plan: SumPlan, key: bytes, form: BlockFormat, ciphertext: bytes) -> List[Any]:
    """The ciphertext's blocks. Raises WireError or PrivacyError for what is invalid under this key and plan."""
    if len(ciphertext) != plan.ciphertext_bytes:
        raise WireError(f"a ciphertext of {len(ciphertext)} bytes; {plan.size} values take {plan.ciphertext_bytes}")
    magic, found = _CIPHERTEXT.unpack_from(ciphertext)
    if magic != _CIPHERTEXT_MAGIC:
        raise WireError("these bytes are no CKKS ciphertext of Edgeward")
    if found != key:
        raise PrivacyError(f"encrypted for key {found.hex()[:16]}, this sum's is {key.hex()[:16]}")
    return [form.load(block) for block in _blocks(ciphertext)]


def _blocks(ciphertext: bytes) -> Iterator[bytes]:
    step = PARAMETERS.block_bytes
    return (ciphertext[start : start + step] for start in range(_CIPHERTEXT.size, len(ciphertext), step))
