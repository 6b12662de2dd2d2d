"""Search of similar patients under encryption: how many bits of two codes differ, computed by an owner who cannot read the one.

    querier   Querier.make()      public to owners; ask(code) -> a block; read(answer) -> which cells are hits
    owner     Answerer(public)    answer(block, cells) -> blocks

The querier encrypts the bits of a code with BFV, once for each cell of a ciphertext. A cell is a test: whether a patient of the
owner is at one distance j. For bits q of the query and d of the patient the distance is D = sum of q (1 - 2 d) + d, and what
the querier decrypts of a cell adds up to

    r (D - j) + pad    modulo the prime t = 65,537

with r drawn evenly from 1 to t - 1. Without the pad it is 0 exactly where D = j, a hit, and otherwise even over all other
numbers, whatever D is. Single slots of a cell show nothing: masks that add up to 0 are on them, drawn each time.

The pads follow from a key of eight numbers modulo t that the owner draws for each question. What the querier decrypts of
another eight ciphertexts adds up, over all slots of each, to

    number of the key + sum of s (q^2 - q) + sum of v q

with s for each slot drawn evenly from 0 to t - 1, and v so as well, but that it adds up to 0 over the cells, for each bit. The
sums are 0 where q is bits alone, and the same in all cells; otherwise they are even over all numbers, in each of the eight by
itself, and nobody has the key. So a question is about one code, of bits, or it opens nothing.

Cells are shuffled within groups; what a hit says of a patient is the group it is in. Some cells can never be hits, and hide how
many patients there are; some always are, and are the noise on a count.

The owner adds fresh encryptions of 0 to both factors of each product and to all that leaves, and floods it with noise of nearly
half a step (bfv_blocks.py). In the worst case a fresh ciphertext has noise of 2^13, one times s of 2^41 (N t / 2 times as
much), and a product of two of 2^89 (less than 4 N^2 t times as much); the flood reaches to 2^145: what the noise tells is
within 2^-43 of nothing, for a ciphertext. All of this holds for ciphertexts that BFV makes, with any numbers in them. For those
off the grid of whole numbers there is no proof: fractions of a step drown in the flood, which is even over all of one but
2^-23, and what is left are whole numbers with carries of factors that nobody knows, of the key too.
"""

import hashlib
from typing import Any, Optional, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.bfv_blocks import LINEAR_BYTES, PRODUCT_BYTES, Blocks, encrypted
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

KEY = 8
"""Numbers modulo PLAIN, of 128 bits together."""


def cells_in_a_block(bits: int) -> int:
    """How many cells a ciphertext holds."""
    return DEGREE // bits


def answer_bytes(bits: int, cells: int) -> int:
    """Of one question."""
    return KEY * PRODUCT_BYTES + -(-cells // cells_in_a_block(bits)) * LINEAR_BYTES


def pads_of(key: np.ndarray, cells: int) -> np.ndarray:
    """int64 (cells,), even over 0 to PLAIN - 1 but for 2^-47, from SHAKE-256 of a key (KEY,)."""
    content = hashlib.shake_256(b"edgeward similar pads" + key.astype("<u4").tobytes()).digest(8 * cells)
    return (np.frombuffer(content, "<u8") % np.uint64(PLAIN)).astype(np.int64)


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
        """int64 (cells,): what each cell adds up to without its pad; 0 is a hit. WireError for an answer of another size."""
        key, slots = self.opened(answer, bits, cells)
        return (slots.sum(axis=1) - pads_of(key, cells)) % PLAIN

    def opened(self, answer: bytes, bits: int, cells: int) -> Tuple[np.ndarray, np.ndarray]:
        """(key (KEY,), slots (cells, bits)), int64: all that is decrypted of an answer."""
        if len(answer) != answer_bytes(bits, cells):
            raise WireError(f"an answer of {len(answer)} bytes; one of {cells} cells has {answer_bytes(bits, cells)}")
        most, end = cells_in_a_block(bits), KEY * PRODUCT_BYTES
        sums = []
        for start in range(0, end, PRODUCT_BYTES):
            sums.append(self._blocks.decrypted(answer[start : start + PRODUCT_BYTES])[: most * bits].sum() % PLAIN)
        found = []
        for start in range(end, len(answer), LINEAR_BYTES):
            values = self._blocks.decrypted(answer[start : start + LINEAR_BYTES])
            found.append(values[: most * bits].reshape(most, bits))
        return np.array(sums, np.int64), np.concatenate(found)[:cells]


class Answerer:
    """The side with the patients. Has the public key only."""

    def __init__(self, public: bytes, random: Optional[SecureRandom] = None) -> None:
        """random: what factors and masks are drawn by; encryptions draw by themselves."""
        self._context = load_public(public)
        self.key_id = key_id(public)
        self._blocks, self._random = Blocks(self._context), random or SecureRandom()

    def answer(self, question: bytes, codes: np.ndarray, cells: Cells) -> bytes:
        """`answer_bytes` to a question; codes: uint8 (patients, bits). WireError for what is no ciphertext."""
        asked, bits, count = self._blocks.read_question(question), codes.shape[1], len(cells.patients)
        key, most = self._below(KEY), cells_in_a_block(codes.shape[1])
        pads = pads_of(key, count)
        try:
            parts = [self._key_block(asked, bits, int(number)) for number in key]
            for start in range(0, count, most):
                some = Cells(*(each[start : start + most] for each in cells))
                parts.append(self._block(asked, codes, some, pads[start : start + most]))
        except (ValueError, RuntimeError) as error:  # TenSEAL's of a product in which nothing is left of a ciphertext
            raise WireError(f"a question that nothing can be computed with: {error}") from error
        return b"".join(parts)

    def _key_block(self, asked: Any, bits: int, number: int) -> bytes:
        """One number of the key, for a question of bits that are the same in all cells."""
        most = cells_in_a_block(bits)
        apart, masks = self._below(DEGREE), self._below(DEGREE)
        by_cell = apart[: most * bits].reshape(most, bits)
        by_cell[0] = -by_cell[1:].sum(axis=0) % PLAIN
        masks[0] = (number - masks[1 : most * bits].sum()) % PLAIN
        # Fresh before the product, which is of three polynomials: by the third, s could be read off one that is not.
        total = asked * self._below(DEGREE).tolist()
        total.add_(self._nothing())
        less_one = asked - [1] * DEGREE
        less_one.add_(self._nothing())
        total.mul_(less_one)
        total.add_(asked * apart.tolist())
        total.add_(masks.tolist())
        total.add_(self._nothing())
        return self._blocks.write_answer(total)

    def _block(self, asked: Any, codes: np.ndarray, cells: Cells, pads: np.ndarray) -> bytes:
        """One ciphertext of cells."""
        factors, constants = self._linear(codes, cells, pads)
        total = self._nothing()
        if factors.any():  # else there is no patient among these cells
            total.add_(asked * factors.tolist())
        total.add_(constants.tolist())
        return self._blocks.write_answer(total)

    def _nothing(self) -> Any:
        return encrypted(self._context, _ZEROS)

    def _linear(self, codes: np.ndarray, cells: Cells, pads: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
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
        masks[:, 0] = (sums + pads - masks[:, 1:].sum(axis=1)) % PLAIN
        return factors, constants

    def _below(self, size: int) -> np.ndarray:
        """int64 (size,), even over 0 to PLAIN - 1 but for 2^-47."""
        return (self._random.words(size) % np.uint64(PLAIN)).astype(np.int64)
