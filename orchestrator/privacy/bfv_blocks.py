"""Blocks of 8,192 encrypted whole numbers modulo 65,537, for the search of similar patients: ciphertexts of TenSEAL's BFV.

As in ckks_blocks.py a block on the wire is a ciphertext's numbers alone, and TenSEAL's own framing is not read from a stranger.
An answer is two polynomials, or three where something was multiplied, of which the upper 56 bits of each number travel. Keys:
bfv_keys.py.
"""

import math
import secrets
from typing import Any, List, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.bfv_keys import (
    DEGREE,
    HEADER,
    LOADING,
    MAGIC,
    MODULI,
    OTHER_TENSEAL,
    PLAIN,
    STORED,
    members_of,
    varint,
)
from orchestrator.privacy.ckks_blocks import tenseal

_LIMBS = len(MODULI)
_WHOLE = math.prod(MODULI)
_LIFT = [_WHOLE // each * pow(_WHOLE // each, -1, each) for each in MODULI]
"""What a number modulo each is multiplied with, so that all of them add up to the number modulo the whole."""

FLOOD_BITS = 24
"""The answer is flooded up to 2^-FLOOD_BITS of a plain step below half of one: from there it would be read as another number."""

_ANSWER_BITS = 56
"""What is left out of numbers moves what is decrypted by some 2^-26 of a plain step."""

QUESTION_BYTES = 2 * 8 * DEGREE * _LIMBS
LINEAR_BYTES, PRODUCT_BYTES = (polynomials * DEGREE * _ANSWER_BITS // 8 for polynomials in (2, 3))
"""Of an answer."""


def encrypted(context: Any, values: np.ndarray) -> Any:
    """int64 (DEGREE,) within 0 to PLAIN - 1 -> a TenSEAL vector, freshly encrypted under the public key."""
    return tenseal().bfv_vector(context, values.tolist())


class Blocks:
    """Reads and writes ciphertexts under one key."""

    def __init__(self, context: Any) -> None:
        self._context = context
        example = encrypted(context, np.zeros(DEGREE, np.int64))
        self._question = _Frame(example, 2)
        example.mul_(encrypted(context, np.ones(DEGREE, np.int64)))
        self._product = _Frame(example, 3)

    def write_question(self, vector: Any) -> bytes:
        """QUESTION_BYTES of a fresh ciphertext."""
        return self._question.numbers(vector)

    def read_question(self, numbers: bytes) -> Any:
        """A TenSEAL vector of DEGREE numbers. WireError for anything that is no ciphertext of these parameters."""
        return self._question.vector(self._context, numbers, QUESTION_BYTES)

    def write_answer(self, vector: Any) -> bytes:
        """LINEAR_BYTES, or PRODUCT_BYTES of a product: flooded with noise of nearly half a step, and without the bits in which
        nothing else is.
        """
        product = vector.ciphertext()[0].size() == 3
        content = (self._product if product else self._question).numbers(vector)
        numbers = np.frombuffer(content, "<u8").reshape(-1, _LIMBS, DEGREE)
        whole = np.zeros((len(numbers), DEGREE), object)
        for limb, lift in enumerate(_LIFT):
            whole += numbers[:, limb].astype(object) * lift
        whole[0] += np.array(self._flood(), object)
        upper = (((whole % _WHOLE) << _ANSWER_BITS) + _WHOLE // 2) // _WHOLE % (1 << _ANSWER_BITS)
        octets = upper.astype("<u8").ravel().view(np.uint8).reshape(-1, 8)
        return np.ascontiguousarray(octets[:, : _ANSWER_BITS // 8]).tobytes()

    def _flood(self) -> List[int]:
        """Of each coefficient, evenly: what it was before cannot be seen, as far as it was small against this."""
        step = _WHOLE // PLAIN
        reach = step // 2 - (step >> FLOOD_BITS)
        size = (_WHOLE.bit_length() + 64) // 8  # even to 2^-64
        drawn = secrets.token_bytes(size * DEGREE)
        pieces = (int.from_bytes(drawn[at : at + size], "little") for at in range(0, len(drawn), size))
        return [piece % (2 * reach + 1) - reach for piece in pieces]

    def decrypted(self, numbers: bytes) -> np.ndarray:
        """int64 (DEGREE,) within 0 to PLAIN - 1, of an answer. WireError for anything that is no answer."""
        whole = uppers(numbers).astype(object) * _WHOLE + (1 << (_ANSWER_BITS - 1)) >> _ANSWER_BITS
        limbs = [(whole % each).astype("<u8") for each in MODULI]
        content = np.ascontiguousarray(np.stack(limbs, axis=1)).tobytes()
        frame = self._product if len(numbers) == PRODUCT_BYTES else self._question
        vector = frame.vector(self._context, content, len(content))
        vector.link_context(self._context)
        return np.array(vector.decrypt(), np.int64) % PLAIN


def uppers(numbers: bytes) -> np.ndarray:
    """uint64 (polynomials, DEGREE): those of an answer, as shares of the whole in 2^-56."""
    if len(numbers) not in (LINEAR_BYTES, PRODUCT_BYTES):
        raise WireError(f"an encrypted answer of {len(numbers)} bytes; one has {LINEAR_BYTES} or {PRODUCT_BYTES}")
    octets = np.frombuffer(numbers, np.uint8).reshape(-1, _ANSWER_BITS // 8)
    filled = np.zeros((len(octets), 8), np.uint8)
    filled[:, : _ANSWER_BITS // 8] = octets
    return filled.view("<u8").reshape(-1, DEGREE)


class _Frame:
    """What TenSEAL and SEAL write round the numbers of a ciphertext of one kind, read off one of our own.

    TenSEAL: protobuf with sizes (1) and one ciphertext (2). SEAL: a header, then members, compressed with zstd.
    """

    def __init__(self, example: Any, polynomials: int) -> None:
        self._bytes = polynomials * 8 * DEGREE * _LIMBS
        self._sizes, self._version, members = self._unframed(example)
        self._before = members[: -self._bytes]

    @staticmethod
    def _unframed(vector: Any) -> Tuple[bytes, bytes, bytes]:
        frame = bytes(vector.serialize())
        after_sizes = 2 + frame[1]
        start = after_sizes + 1
        while frame[start] & 0x80:
            start += 1
        start += 1
        if frame[after_sizes] != 0x12:
            raise PrivacyError(OTHER_TENSEAL)
        return frame[:after_sizes], frame[start + 3 : start + 5], members_of(frame[start:])

    def numbers(self, vector: Any) -> bytes:
        """Of a ciphertext of this kind."""
        members = self._unframed(vector)[2]
        if members[: -self._bytes] != self._before:
            raise PrivacyError("this block has another size or level than was agreed on")
        return members[-self._bytes :]

    def vector(self, context: Any, numbers: bytes, expected: int) -> Any:
        """The ciphertext of these numbers; WireError for bytes that hold no valid one."""
        if len(numbers) != expected:
            raise WireError(f"an encrypted block of {len(numbers)} bytes; one has {expected}")
        length = HEADER.size + len(self._before) + len(numbers)
        header = HEADER.pack(MAGIC, HEADER.size, *self._version, STORED, 0, length)
        frame = b"".join((self._sizes, b"\x12", varint(length), header, self._before, numbers))
        try:
            vector = tenseal().bfv_vector_from(context, frame)
            transparent = vector.ciphertext()[0].is_transparent()
        except LOADING as error:
            raise WireError(f"not a ciphertext under these parameters: {error}") from error
        if transparent:
            raise WireError("a block that anybody can read: its second half is zero")
        return vector
