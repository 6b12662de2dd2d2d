"""Blocks of 4,096 encrypted numbers: what CKKS sums and encrypted scores share, and the only file that calls TenSEAL.

A block on the wire is the ciphertext's numbers alone, 64 bits each. TenSEAL's own framing is not read from a stranger: it says
how many slots to hand out, and TenSEAL 0.3.18 hands out memory beyond the ciphertext when that is too many. The receiver puts
the framing of a block of its own in front, so a sender chooses the numbers and nothing else (no scale, level, size or
compression); SEAL checks that each number is below its modulus.

CKKS: Cheon, Kim, Kim and Song 2017, https://eprint.iacr.org/2016/421. Ring degree 8,192; SEAL refuses moduli that give
less than 128 bits of security by the HomomorphicEncryption.org tables (218 bits in all at this degree).
"""

import hashlib
import struct
import sys
from typing import Any, NamedTuple, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError

DEGREE = 8192
SLOTS = DEGREE // 2

NOISE_STD = 1400.0
"""Standard deviation of a fresh block's error in its slots, times the scale: sqrt(N / 2) sqrt((2N / 3 + 1) / 12) = 1366, from
rounding after the special modulus against a ternary secret; measured 1335 to 1350. In one slot it is normal with the secret's
size there, which is Rayleigh over the slots. So its tails are Laplace's: beyond r times NOISE_STD lies exp(-sqrt(2) r)."""

MODULUS = 1152921504606748673
"""Of a block's numbers with moduli of 60 and 60 bits: SEAL takes the largest primes 2N k + 1 below 2^60, the larger for keys."""

_ROOT = pow(3, (MODULUS - 1) // 4, MODULUS)
"""A square root of -1: X^(N/2) at the first half of the roots at which SEAL keeps a polynomial; at the others it is -_ROOT."""

_MAGIC, _STORED, _SCALE_BYTES = 0xA15E, 0, 9
_HEADER = struct.Struct("<HBBBBHQ")  # SEAL's: magic, header bytes, major, minor, compression, reserved, bytes in all
_LOADING = (ValueError, RuntimeError, IndexError, MemoryError, OverflowError)  # what pybind11 makes of C++ exceptions


class Parameters(NamedTuple):
    """Bits of the coefficient moduli, of which the last is for encryption alone, and of the scale."""

    moduli_bits: Tuple[int, ...]
    scale_bits: int

    @property
    def limbs(self) -> int:
        """Moduli a ciphertext has numbers for."""
        return len(self.moduli_bits) - 1

    @property
    def block_bytes(self) -> int:
        return 2 * 8 * DEGREE * self.limbs


def tenseal() -> Any:
    """The library. Raises PrivacyError where it is not installed, and where it would end the process.

    It and TensorFlow both bring a protobuf: where TensorFlow's was there first, writing a key is a segmentation fault.
    """
    if "tensorflow" in sys.modules and "tenseal" not in sys.modules:
        raise PrivacyError(
            "homomorphic encryption cannot begin in a process that has TensorFlow already: import tenseal before tensorflow, "
            "or use a process of its own"
        )
    try:
        import tenseal as library
    except ImportError as error:
        raise PrivacyError(
            "homomorphic encryption needs TenSEAL, which needs Python 3.11 or newer: pip install 'edgeward[he]'"
        ) from error
    return library


def make_keys(parameters: Parameters) -> Any:
    """A TenSEAL context with new keys; its secret key never leaves the process that asked."""
    library = tenseal()
    context = library.context(library.SCHEME_TYPE.CKKS, DEGREE, -1, list(parameters.moduli_bits), n_threads=1)
    context.global_scale = 2.0**parameters.scale_bits
    context.auto_rescale = False
    return context


def public_bytes(context: Any) -> bytes:
    """Parameters and the public key: what a stranger needs to encrypt."""
    return _serialized(context, public=True)


def secret_bytes(context: Any) -> bytes:
    """Everything, the secret key too. For a file that only its owner reads."""
    return _serialized(context, public=True, secret=True)


def key_id(public: bytes) -> bytes:
    """32 bytes that name a key pair: SHA-256 of what is published of it."""
    return hashlib.sha256(b"edgeward ckks key" + public).digest()


def load_public(data: bytes, parameters: Parameters) -> Any:
    """A context to encrypt and compute with. Raises PrivacyError where a secret key is inside, WireError for the rest.

    Anyone who can replace a public key reads what is encrypted for it: check its key id, or a signature, first.
    """
    context = _load_context(data)
    if context.is_private():
        raise PrivacyError("this context holds the secret key: give away the public one only, and make new keys now")
    _check_context(context, parameters)
    return context


def load_secret(data: bytes, parameters: Parameters) -> Any:
    """The context `secret_bytes` wrote, with which one can decrypt."""
    context = _load_context(data)
    if not context.is_private():
        raise PrivacyError("this file holds no secret key: decrypting needs the one that was made with the public key")
    _check_context(context, parameters)
    return context


class BlockFormat:
    """Reads and writes blocks of one kind: those that look like `example`, a TenSEAL vector of SLOTS numbers."""

    def __init__(self, context: Any, example: Any) -> None:
        self._context = context
        limbs = int(example.ciphertext()[0].coeff_modulus_size())
        self.block_bytes = 2 * 8 * DEGREE * limbs
        self._sizes, self._version, members, self._scale = _unframe(example)
        self._before = members[: -self.block_bytes]

    def dump(self, vector: Any) -> bytes:
        """The numbers of a block of this kind."""
        members = _unframe(vector)[2]
        if members[: -self.block_bytes] != self._before:
            raise PrivacyError("this block has another scale, size or level than was agreed on")
        return members[-self.block_bytes :]

    def load(self, numbers: bytes) -> Any:
        """A TenSEAL vector of SLOTS numbers. Raises WireError for anything that is not a ciphertext of these parameters."""
        if len(numbers) != self.block_bytes:
            raise WireError(f"an encrypted block of {len(numbers)} bytes; one has {self.block_bytes}")
        length = _HEADER.size + len(self._before) + len(numbers)
        header = _HEADER.pack(_MAGIC, _HEADER.size, *self._version, _STORED, 0, length)
        frame = b"".join((self._sizes, b"\x12", _varint(length), header, self._before, numbers, self._scale))
        try:
            vector = tenseal().ckks_vector_from(self._context, frame)
            transparent = vector.ciphertext()[0].is_transparent()
        except _LOADING as error:
            raise WireError(f"not a ciphertext under these parameters: {error}") from error
        if transparent:
            raise WireError("a block that anybody can read: its second half is zero")
        return vector


def _unframe(vector: Any) -> Tuple[bytes, bytes, bytes, bytes]:
    """Of a vector of our own, as TenSEAL writes it: sizes, SEAL's version, what SEAL says of it and its numbers, scale.

    TenSEAL: protobuf with sizes (1), one ciphertext (2), scale (3). SEAL: a header, then members, compressed with zstd.
    """
    import zstandard

    frame = vector.serialize()
    after_sizes = 2 + frame[1]
    start = after_sizes + 1
    while frame[start] & 0x80:
        start += 1
    start += 1
    magic, header_bytes, major, minor, compression, _, length = _HEADER.unpack_from(frame, start)
    end = start + length
    if (frame[after_sizes], magic, header_bytes, len(frame) - end) != (0x12, _MAGIC, _HEADER.size, _SCALE_BYTES):
        raise PrivacyError("this TenSEAL writes ciphertexts in a way Edgeward does not know: install tenseal==0.3.18")
    members = frame[start + header_bytes : end]
    if compression != _STORED:
        members = zstandard.ZstdDecompressor().decompressobj().decompress(members)
    return frame[:after_sizes], bytes((major, minor)), members, frame[end:]


def encrypt_block(context: Any, values: np.ndarray) -> Any:
    """float64 (up to SLOTS,) -> a TenSEAL vector, filled up with zeros."""
    padded = np.zeros(SLOTS)
    padded[: len(values)] = values
    try:
        return tenseal().ckks_vector(context, padded)
    except ValueError as error:
        raise PrivacyError(f"these values cannot be encrypted: {error}") from error


def decrypt_block(context: Any, vector: Any) -> np.ndarray:
    """float64 (SLOTS,), with CKKS's error still on it: round it before anybody else sees it."""
    vector.link_context(context)
    return np.array(vector.decrypt())


def turned(numbers: bytes) -> bytes:
    """A block times X^(N/2), which turns its slots by a right angle: what was imaginary in them is real then.

    For blocks with one modulus. TenSEAL reads the real parts of slots, and does not tell what is beside them.
    """
    block = np.frombuffer(numbers, "<u8").reshape(2, 2, DEGREE // 2)
    halves = [_times(block[:, i], root) for i, root in enumerate((_ROOT, MODULUS - _ROOT))]
    return np.stack(halves, axis=1).astype("<u8").tobytes()


def _times(numbers: np.ndarray, factor: int) -> np.ndarray:
    """uint64 numbers times a factor, both below MODULUS, modulo it: in halves of 30 bits, whose products do not fill 128."""
    high = _times_small(_times_small(numbers, factor >> 30), 1 << 30)
    return _reduced((high + _times_small(numbers, factor & ((1 << 30) - 1))).view(np.int64))


def _times_small(numbers: np.ndarray, factor: int) -> np.ndarray:
    """For a factor of 2^30 at most: the quotient is known to one from floats, and the rest is right modulo 2^64."""
    quotient = np.floor(numbers.astype(np.float64) * (factor / MODULUS)).astype(np.uint64)
    return _reduced((numbers * np.uint64(factor) - quotient * np.uint64(MODULUS)).view(np.int64))


def _reduced(numbers: np.ndarray) -> np.ndarray:
    """uint64 in [0, MODULUS), from int64 in [-MODULUS, 2 MODULUS)."""
    numbers += MODULUS * (numbers < 0)
    numbers -= MODULUS * (numbers >= MODULUS)
    return numbers.view(np.uint64)


def _serialized(context: Any, public: bool = False, secret: bool = False) -> bytes:
    return bytes(
        context.serialize(save_public_key=public, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False)
    )


def _load_context(data: bytes) -> Any:
    try:
        return tenseal().context_from(data, n_threads=1)
    except _LOADING as error:
        raise WireError(f"not a CKKS key: {error}") from error


def _check_context(context: Any, parameters: Parameters) -> None:
    if not context.has_public_key():
        raise WireError("this CKKS key has no public part")
    if context.has_galois_keys() or context.has_relin_keys():
        raise WireError("this CKKS key comes with keys for rotations or products, which nothing here uses")
    if _serialized(context) != _serialized(make_keys(parameters)):
        raise WireError(f"this CKKS key has other parameters than degree {DEGREE} and {parameters}")


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts + bytes([value]))
