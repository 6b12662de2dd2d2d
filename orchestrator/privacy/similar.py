"""Search of similar patients under encryption: how many bits of two codes differ, computed by an owner who cannot read the one.

    querier   Querier.make()      public to owners; ask(code) -> a block; read(answer) -> which cells are hits
    owner     Answerer(public)    answer(block, cells) -> blocks

The querier encrypts the bits of a code with BFV, once for each cell of a ciphertext. A cell is a test: whether a patient of the
owner is at one distance j. For bits q of the query and d of the patient the distance is D = sum of q (1 - 2 d) + d (Lee et al.
2018 compute it under encryption), and what the querier decrypts of a cell adds up to

    r (D - j) + sum of s (q^2 - q)    modulo the prime t = 65,537

with r drawn evenly from 1 to t - 1, and s for each bit from 0 to t - 1. It is 0 exactly where D = j: a hit. Otherwise it is
even over all other numbers, whatever D is. What the querier encrypted in place of bits makes it even over all numbers, since s
(q^2 - q) is 0 for bits alone. Single slots of a cell show nothing: masks that add up to 0 are on them, drawn each time. Cells
are shuffled within groups; what a hit says of a patient is the group it is in. Some cells can never be hits, and hide how many
patients there are; some always are, and are the noise on a count.

The owner adds fresh encryptions of 0 to both factors of the product and to the sum, and floods the sum with noise of nearly
half a step (bfv_blocks.py). A bound for the worst case puts the noise of all products at 2^89, and the flood reaches to 2^145:
what the noise tells is within 2^-43 of nothing, for a ciphertext. All of this holds for keys and ciphertexts that BFV makes,
with any numbers in them. For others, such as a public key that is no key, or ciphertexts off the grid of whole numbers, nothing
is proved here.
"""

from typing import Any, Optional, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.bfv_blocks import ANSWER_BYTES, Blocks, encrypted
from orchestrator.privacy.bfv_keys import (
    DEGREE,
    NONCE_BYTES,
    PLAIN,
    key_id,
    load_public,
    load_secret,
    make_keys,
    new_nonce,
    public_of,
    secret_bytes,
)
from orchestrator.privacy.secure_random import SecureRandom
from orchestrator.privacy.similar_cells import NEVER, Cells

_ZEROS = np.zeros(DEGREE, np.int64)


def cells_in_a_block(bits: int) -> int:
    """How many cells a ciphertext holds."""
    return DEGREE // bits


class Querier:
    """The side with the secret key and a patient's code. Keys are for one question."""

    def __init__(self, context: Any, public: bytes) -> None:
        self._context, self.public = context, public
        self.key_id = key_id(public)
        self._blocks = Blocks(context)

    @classmethod
    def make(cls) -> "Querier":
        """With new keys."""
        context = make_keys()
        return cls(context, public_of(context, new_nonce()))

    @classmethod
    def from_secret(cls, secret: bytes, public: bytes) -> "Querier":
        """From `secret_key`, and what was published with it. WireError or PrivacyError for anything else."""
        context = load_secret(secret)
        if public_of(context, public[:NONCE_BYTES]) != public:
            raise PrivacyError("key and question belong to different pairs")
        return cls(context, public)

    def secret_key(self) -> bytes:
        """For a file that nobody else reads."""
        return secret_bytes(self._context)

    def ask(self, code: np.ndarray) -> bytes:
        """QUESTION_BYTES of a code (bits,) of 0 and 1."""
        return self.ask_slots(np.tile(np.asarray(code, np.int64), cells_in_a_block(len(code))))

    def ask_slots(self, values: np.ndarray) -> bytes:
        """The same of numbers of one's own choice, cell by cell: what an owner has to reckon with."""
        whole = _ZEROS.copy()
        whole[: len(values)] = np.asarray(values, np.int64) % PLAIN
        return self._blocks.write_question(encrypted(self._context, whole))

    def read(self, answer: bytes, bits: int, cells: int) -> np.ndarray:
        """int64 (cells,): what each cell adds up to; 0 is a hit. WireError for an answer of another size."""
        return self.slots(answer, bits, cells).sum(axis=1) % PLAIN

    def slots(self, answer: bytes, bits: int, cells: int) -> np.ndarray:
        """int64 (cells, bits): all that is decrypted of an answer."""
        most = cells_in_a_block(bits)
        blocks = -(-cells // most)
        if len(answer) != blocks * ANSWER_BYTES:
            raise WireError(f"an answer of {len(answer)} bytes; one of {cells} cells has {blocks * ANSWER_BYTES}")
        found = []
        for block in range(blocks):
            values = self._blocks.decrypted(answer[block * ANSWER_BYTES : (block + 1) * ANSWER_BYTES])
            found.append(values[: most * bits].reshape(most, bits))
        return np.concatenate(found)[:cells]


class Answerer:
    """The side with the patients. Has the public key only."""

    def __init__(self, public: bytes, random: Optional[SecureRandom] = None) -> None:
        """random: what factors and masks are drawn by; encryptions draw by themselves."""
        self._context = load_public(public)
        self.key_id = key_id(public)
        self._blocks, self._random = Blocks(self._context), random or SecureRandom()

    def answer(self, question: bytes, codes: np.ndarray, cells: Cells) -> bytes:
        """ANSWER_BYTES for each `cells_in_a_block` cells; codes: uint8 (patients, bits). WireError for no ciphertext."""
        asked, bits = self._blocks.read_question(question), codes.shape[1]
        most = cells_in_a_block(bits)
        parts = []
        for start in range(0, len(cells.patients), most):
            some = Cells(cells.patients[start : start + most], cells.distances[start : start + most])
            try:
                parts.append(self._block(asked, codes, some))
            except (
                ValueError,
                RuntimeError,
            ) as error:  # TenSEAL's of a product in which nothing is left of a ciphertext
                raise WireError(f"a question that nothing can be computed with: {error}") from error
        return b"".join(parts)

    def _block(self, asked: Any, codes: np.ndarray, cells: Cells) -> bytes:
        """One ciphertext: sums of products of what was asked, under encryptions nobody has seen."""
        factors, constants = self._linear(codes, cells)
        # Fresh before the product, which is of three polynomials: by the third, s could be read off one that is not.
        total = asked * self._below(DEGREE).tolist()
        total.add_(self._nothing())
        less_one = asked - [1] * DEGREE
        less_one.add_(self._nothing())
        total.mul_(less_one)
        if factors.any():  # else there is no patient among these cells
            total.add_(asked * factors.tolist())
        total.add_(constants.tolist())
        total.add_(self._nothing())
        return self._blocks.write_answer(total)

    def _nothing(self) -> Any:
        return encrypted(self._context, _ZEROS)

    def _linear(self, codes: np.ndarray, cells: Cells) -> Tuple[np.ndarray, np.ndarray]:
        """(factor, constant) int64 (DEGREE,) of each slot."""
        count, bits = len(cells.patients), codes.shape[1]
        real = cells.patients >= 0
        code = np.where(real[:, np.newaxis], codes[np.maximum(cells.patients, 0)].astype(np.int64), 0)
        times = 1 + (self._random.words(count) >> np.uint64(48)).astype(np.int64)  # 1 to PLAIN - 1
        sums = np.where(real, times * (code.sum(axis=1) - cells.distances), np.where(cells.patients == NEVER, times, 0))
        factors, constants = self._below(DEGREE), self._below(DEGREE)
        inside = factors[: count * bits].reshape(count, bits)
        inside[:] = np.where(real[:, np.newaxis], times[:, np.newaxis] * (1 - 2 * code), 0) % PLAIN
        masks = constants[: count * bits].reshape(count, bits)
        masks[:, 0] = (sums - masks[:, 1:].sum(axis=1)) % PLAIN
        return factors, constants

    def _below(self, size: int) -> np.ndarray:
        """int64 (size,), even over 0 to PLAIN - 1 but for 2^-47."""
        return (self._random.words(size) % np.uint64(PLAIN)).astype(np.int64)
