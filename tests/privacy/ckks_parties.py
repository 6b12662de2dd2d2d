"""Four parties of a sum under CKKS, and what a test needs to lie in their names."""

from copy import copy
from typing import Dict, Iterable, List, Tuple

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.privacy.ckks import Encryptor, Hidden, KeyHolder, Summand, SumPlan, _check_of, sign_summand
from orchestrator.privacy.ckks_blocks import decrypt_block

SESSION = b"icu/run 1/round 3"
check_of = _check_of
NAMES = ("north", "south", "east", "west")
KEYS = {name: Ed25519PrivateKey.generate() for name in NAMES}
HEADER_BYTES = 36
"""Of a ciphertext, before its first block."""


def verify(party: str, message: bytes, signature: bytes) -> bool:
    try:
        KEYS[party].public_key().verify(signature, message)
    except (InvalidSignature, KeyError):
        return False
    return True


class Ward:
    """A key holder, and what each party hid for it."""

    def __init__(self, size: int = 5000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._unused = KeyHolder(SumPlan(size, len(NAMES)))
        self.begin_again()
        self.encryptor = Encryptor(self.holder.public_context())
        self.vectors = {name: rng.integers(-(10**6), 10**6, size) for name in NAMES}
        self.hidden = {name: self.hide(name, self.vectors[name]) for name in NAMES}

    def begin_again(self) -> None:
        """As if no sum had been begun: another holder of the same keys, which takes a while to make."""
        self.holder = copy(self._unused)

    def hide(self, name: str, vector: np.ndarray, session: bytes = SESSION) -> Hidden:
        return self.encryptor.hide(vector, name, session)

    def signed(self, session: bytes = SESSION, names: Iterable[str] = NAMES) -> List[Summand]:
        return [sign_summand(name, self.hidden[name], session, KEYS[name].sign) for name in names]

    def ciphertexts(self, names: Iterable[str] = NAMES) -> List[bytes]:
        return [self.hidden[name].ciphertext for name in names]

    def pads(self, session: bytes = SESSION) -> np.ndarray:
        """What the key holder says of them all."""
        return self.holder.sum_pads(self.ciphertexts(), session, self.signed(session), verify)

    def replace(self, name: str, ciphertext: bytes, foreseen: bool) -> None:
        """Another ciphertext for a party. foreseen: with the check of what the key holder is going to read in it, as if the party
        had guessed all of it: then the check refuses nothing."""
        check = self.hidden[name].check
        if foreseen:
            check = check_of(self.holder.key_id, SESSION, name, self.words(ciphertext))
        self.hidden[name] = Hidden(self.hidden[name].masked, ciphertext, check)

    def decrypted(self, ciphertext: bytes) -> np.ndarray:
        """float64: all slots of it, errors and all, with the secret key."""
        holder = self.holder
        numbers, step = ciphertext[HEADER_BYTES:], holder.format.block_bytes
        blocks = [holder.format.load(numbers[start : start + step]) for start in range(0, len(numbers), step)]
        return np.concatenate([decrypt_block(holder.context, block) for block in blocks])

    def words(self, ciphertext: bytes) -> np.ndarray:
        """uint32: the pad and salt in it, rounded."""
        return np.rint(self.decrypted(ciphertext))[: self.holder.plan.encrypted].astype(np.int64).astype(np.uint32)

    def numbers(self, name: str) -> Tuple[bytes, np.ndarray]:
        """(header, uint64 (blocks, 2, 8192)) of a party's ciphertext, to change."""
        ciphertext = self.hidden[name].ciphertext
        raw = np.frombuffer(ciphertext, "<u8", offset=HEADER_BYTES).reshape(-1, 2, 8192).copy()
        return ciphertext[:HEADER_BYTES], raw


def total_of(vectors: Dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(sum(vectors.values()))
