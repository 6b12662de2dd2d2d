"""Blocks of 8,192 encrypted whole numbers modulo 65,537, for the search of similar patients: what calls TenSEAL's BFV.

As in ckks_blocks.py a block on the wire is a ciphertext's numbers alone, and TenSEAL's own framing is not read from a stranger.
An answer is three polynomials, of which the upper 48 bits of each number travel.

BFV: Brakerski 2012, Fan and Vercauteren 2012 (https://eprint.iacr.org/2012/144). Ring degree 8,192; SEAL refuses moduli that
give less than 128 bits of security by the HomomorphicEncryption.org tables (218 bits in all at this degree).
"""

import hashlib
import math
import secrets
import struct
from typing import Any, List, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.ckks_blocks import tenseal

DEGREE = 8192
PLAIN = 65537
"""Prime, and 1 modulo twice the degree: 8,192 numbers modulo it are added and multiplied at once."""

_MODULI_BITS = (54, 54, 54, 54)
_MODULI = 18014398507794433, 18014398507892737, 18014398508138497
_LIMBS = len(_MODULI)
"""Of a ciphertext's numbers: SEAL takes the largest primes 16,384 k + 1 below 2^54, the largest of them for keys."""

_WHOLE = math.prod(_MODULI)

FLOOD_BITS = 10
"""The answer is flooded up to 2^-FLOOD_BITS of a plain step below half of one: from there it would be read as another number."""

_LIFT = [_WHOLE // each * pow(_WHOLE // each, -1, each) for each in _MODULI]
"""What a number modulo each is multiplied with, so that all of them add up to the number modulo the whole."""

_MAGIC, _STORED = 0xA15E, 0
_HEADER = struct.Struct("<HBBBBHQ")  # SEAL's: magic, header bytes, major, minor, compression, reserved, bytes in all
_LOADING = (ValueError, RuntimeError, IndexError, MemoryError, OverflowError)  # what pybind11 makes of C++ exceptions
_ANSWER_BITS = 48
QUESTION_BYTES = 2 * 8 * DEGREE * _LIMBS
ANSWER_BYTES = 3 * DEGREE * _ANSWER_BITS // 8
MOST_CONTEXT_BYTES = 4 << 20


def make_keys() -> Any:
    """A TenSEAL context with new keys, of which none are for products: they could be made to undo what is checked."""
    library = tenseal()
    context = library.context(library.SCHEME_TYPE.BFV, DEGREE, PLAIN, list(_MODULI_BITS), n_threads=1)
    context.auto_relin = context.auto_rescale = context.auto_mod_switch = (
        False  # as TenSEAL leaves them once it encrypted
    )
    return context


def _serialized(context: Any, public: bool = False, secret: bool = False) -> bytes:
    return bytes(
        context.serialize(save_public_key=public, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False)
    )


def public_bytes(context: Any) -> bytes:
    """Parameters and the public key."""
    return _serialized(context, public=True)


def secret_bytes(context: Any) -> bytes:
    """Everything, the secret key too. For a file that only its owner reads."""
    return _serialized(context, public=True, secret=True)


def key_id(public: bytes) -> bytes:
    """32 bytes that name a key pair: SHA-256 of what is published of it."""
    return hashlib.sha256(b"edgeward bfv key" + public).digest()


def load_keys(data: bytes, secret: bool) -> Any:
    """The context of `public_bytes`, or of `secret_bytes`. PrivacyError where a secret key is inside that should not be, or is
    missing; WireError for the rest.
    """
    if len(data) > MOST_CONTEXT_BYTES:
        raise WireError(f"a BFV key of {len(data)} bytes")
    try:
        context = tenseal().context_from(data, n_threads=1)
    except _LOADING as error:
        raise WireError(f"not a BFV key: {error}") from error
    if context.is_private() and not secret:
        raise PrivacyError("this context holds the secret key: give away the public one only, and make new keys now")
    if secret and not context.is_private():
        raise PrivacyError("this file holds no secret key")
    if not context.has_public_key():
        raise WireError("this BFV key has no public part")
    if context.has_galois_keys() or context.has_relin_keys():
        raise WireError("this BFV key comes with keys for rotations or products, which nothing here uses")
    if _serialized(context) != _serialized(make_keys()):
        raise WireError(f"this BFV key has other parameters than degree {DEGREE}, {PLAIN} and {_MODULI_BITS}")
    return context


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
        self._answer = _Frame(example, 3)

    def write_question(self, vector: Any) -> bytes:
        """QUESTION_BYTES of a fresh ciphertext."""
        return self._question.numbers(vector)

    def read_question(self, numbers: bytes) -> Any:
        """A TenSEAL vector of DEGREE numbers. WireError for anything that is no ciphertext of these parameters."""
        return self._question.vector(self._context, numbers, QUESTION_BYTES)

    def write_answer(self, vector: Any) -> bytes:
        """ANSWER_BYTES of a product: flooded with noise of nearly half a step, and without the bits in which nothing else is."""
        numbers = np.frombuffer(self._answer.numbers(vector), "<u8").reshape(3, _LIMBS, DEGREE)
        whole = np.zeros((3, DEGREE), object)
        for limb, lift in enumerate(_LIFT):
            whole += numbers[:, limb].astype(object) * lift
        whole[0] += np.array(self._flood(), object)
        half = _WHOLE // 2
        upper = (((whole % _WHOLE) << _ANSWER_BITS) + half) // _WHOLE % (1 << _ANSWER_BITS)
        return np.ascontiguousarray(
            upper.astype("<u8").ravel().view(np.uint8).reshape(-1, 8)[:, : _ANSWER_BITS // 8]
        ).tobytes()

    def _flood(self) -> List[int]:
        """Of each coefficient, evenly: what it was before cannot be seen, as far as it was small against this."""
        step = _WHOLE // PLAIN
        reach = step // 2 - (step >> FLOOD_BITS)
        size = (_WHOLE.bit_length() + 64) // 8  # 64 bits more than the reach: even to 2^-64
        drawn = secrets.token_bytes(size * DEGREE)
        pieces = (int.from_bytes(drawn[at : at + size], "little") for at in range(0, len(drawn), size))
        return [piece % (2 * reach + 1) - reach for piece in pieces]

    def decrypted(self, numbers: bytes) -> np.ndarray:
        """int64 (DEGREE,) within 0 to PLAIN - 1, of an answer. WireError for anything that is no answer."""
        if len(numbers) != ANSWER_BYTES:
            raise WireError(f"an encrypted answer of {len(numbers)} bytes; one has {ANSWER_BYTES}")
        filled = np.zeros((3 * DEGREE, 8), np.uint8)
        filled[:, : _ANSWER_BITS // 8] = np.frombuffer(numbers, np.uint8).reshape(3 * DEGREE, -1)
        upper = filled.view("<u8").astype(object)
        whole = (upper * _WHOLE + (1 << (_ANSWER_BITS - 1))) >> _ANSWER_BITS
        limbs = [(whole % each).astype("<u8").reshape(3, DEGREE) for each in _MODULI]
        content = np.ascontiguousarray(np.stack(limbs, axis=1)).tobytes()
        vector = self._answer.vector(self._context, content, len(content))
        vector.link_context(self._context)
        return np.array(vector.decrypt(), np.int64) % PLAIN


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
        import zstandard

        frame = bytes(vector.serialize())
        after_sizes = 2 + frame[1]
        start = after_sizes + 1
        while frame[start] & 0x80:
            start += 1
        start += 1
        magic, header_bytes, major, minor, compression, _, length = _HEADER.unpack_from(frame, start)
        if (frame[after_sizes], magic, header_bytes, len(frame)) != (0x12, _MAGIC, _HEADER.size, start + length):
            raise PrivacyError(
                "this TenSEAL writes ciphertexts in a way Edgeward does not know: install tenseal==0.3.18"
            )
        members = frame[start + header_bytes :]
        if compression != _STORED:
            members = zstandard.ZstdDecompressor().decompressobj().decompress(members)
        return frame[:after_sizes], bytes((major, minor)), members

    def numbers(self, vector: Any) -> bytes:
        """Of a ciphertext of this kind."""
        members = self._unframed(vector)[2]
        if members[: -self._bytes] != self._before:
            raise PrivacyError("this block has another size or level than was agreed on")
        return members[-self._bytes :]

    def vector(self, context: Any, numbers: bytes, expected: int) -> Any:
        """The ciphertext of these numbers; WireError where there is none."""
        if len(numbers) != expected:
            raise WireError(f"an encrypted block of {len(numbers)} bytes; one has {expected}")
        length = _HEADER.size + len(self._before) + len(numbers)
        header = _HEADER.pack(_MAGIC, _HEADER.size, *self._version, _STORED, 0, length)
        frame = b"".join((self._sizes, b"\x12", _varint(length), header, self._before, numbers))
        try:
            vector = tenseal().bfv_vector_from(context, frame)
            transparent = vector.ciphertext()[0].is_transparent()
        except _LOADING as error:
            raise WireError(f"not a ciphertext under these parameters: {error}") from error
        if transparent:
            raise WireError("a block that anybody can read: its second half is zero")
        return vector


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts + bytes([value]))
