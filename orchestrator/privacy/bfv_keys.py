"""Keys for the search of similar patients, of which the owner of a key chooses less than with BFV's own.

A public key of BFV is (b, a) with b = -(a s + e). Who answers hides what it computes under fresh encryptions of 0, which are b
u + e' and a u + e'' with a u that nobody else knows. That hides something only where a is drawn evenly, so here a is the hash
of a nonce, which both sides compute, and a key in a file is the nonce and b: with a of 0, an answer would show every factor in
it. TenSEAL's framing of keys is not read from a stranger at all.

BFV: Brakerski 2012, Fan and Vercauteren 2012 (https://eprint.iacr.org/2012/144). Ring degree 8,192; SEAL refuses moduli that
give less than 128 bits of security by the HomomorphicEncryption.org tables (218 bits in all at this degree).
"""

import hashlib
import secrets
import struct
from typing import Any, Tuple

import numpy as np

from orchestrator.errors import PrivacyError, WireError
from orchestrator.privacy.ckks_blocks import tenseal

DEGREE = 8192
PLAIN = 65537
"""Prime, and 1 modulo twice the degree: 8,192 numbers modulo it are added and multiplied at once."""

MODULI = 18014398507794433, 18014398507892737, 18014398508138497
"""Of a ciphertext's numbers: SEAL takes the largest primes 16,384 k + 1 below 2^54, the largest of them for keys."""

KEY_MODULI = (*MODULI, 18014398508400641)
_BITS = 54

NONCE_BYTES = 32
PUBLIC_BYTES = NONCE_BYTES + 8 * DEGREE * len(KEY_MODULI)
MOST_SECRET_BYTES = 4 << 20

MAGIC, STORED = 0xA15E, 0
HEADER = struct.Struct("<HBBBBHQ")  # SEAL's: magic, header bytes, major, minor, compression, reserved, bytes in all
LOADING = (ValueError, RuntimeError, IndexError, MemoryError, OverflowError)  # what pybind11 makes of C++ exceptions
OTHER_TENSEAL = "this TenSEAL writes in a way Edgeward does not know: install tenseal==0.3.18"


def make_keys() -> Any:
    """A TenSEAL context with new keys, of which none are for products: they could be made to undo what is checked."""
    library = tenseal()
    context = library.context(library.SCHEME_TYPE.BFV, DEGREE, PLAIN, [_BITS] * len(KEY_MODULI), n_threads=1)
    context.auto_relin = context.auto_rescale = context.auto_mod_switch = (
        False  # as TenSEAL leaves them once it encrypted
    )
    return context


def new_nonce() -> bytes:
    """Of one key pair."""
    return secrets.token_bytes(NONCE_BYTES)


def secret_bytes(context: Any) -> bytes:
    """Everything. For a file that only its owner reads."""
    return _serialized(context, public=True, secret=True)


def load_secret(data: bytes) -> Any:
    """The context `secret_bytes` wrote, by its own owner. WireError or PrivacyError for other bytes."""
    if len(data) > MOST_SECRET_BYTES:
        raise WireError(f"a BFV key of {len(data)} bytes")
    try:
        context = tenseal().context_from(data, n_threads=1)
    except LOADING as error:
        raise WireError(f"not a BFV key: {error}") from error
    if not context.is_private() or not context.has_public_key():
        raise PrivacyError("this file holds no secret key")
    if _serialized(context) != _serialized(make_keys()):
        raise WireError(f"this BFV key has other parameters than degree {DEGREE}, {PLAIN} and moduli of {_BITS} bits")
    return context


def public_of(context: Any, nonce: bytes) -> bytes:
    """PUBLIC_BYTES for others: the nonce, and b for the a that it stands for."""
    own_b, own_a = _numbers(_public_key(_serialized(context, public=True))[1], 2)
    (secret,) = _numbers(_secret_key(secret_bytes(context)), 1)
    given, rows = evenly(nonce), []
    for row, modulus in enumerate(KEY_MODULI):  # in the form SEAL keeps keys in, products are number by number
        move = (own_a[row].astype(object) - given[row].astype(object)) * secret[row].astype(object)
        rows.append(((own_b[row].astype(object) + move) % modulus).astype("<u8"))
    return nonce + np.stack(rows).tobytes()


def load_public(data: bytes) -> Any:
    """A context to encrypt and compute with. WireError for anything that is no such key."""
    if len(data) != PUBLIC_BYTES:
        raise WireError(f"a BFV key of {len(data)} bytes; one has {PUBLIC_BYTES}")
    (b,) = _numbers(data[NONCE_BYTES:], 1)
    if (b >= np.array(KEY_MODULI, np.uint64)[:, np.newaxis]).any():
        raise WireError("this BFV key has numbers beyond their moduli")
    template = _serialized(make_keys(), public=True)
    (start, end), members = _public_key(template)
    key = members[: -2 * b.nbytes] + b.tobytes() + evenly(data[:NONCE_BYTES]).astype("<u8").tobytes()
    version = HEADER.unpack_from(template, start)[2:4]
    sealed = HEADER.pack(MAGIC, HEADER.size, *version, STORED, 0, HEADER.size + len(key)) + key
    outer = b"\x0a" + varint(len(sealed)) + sealed + template[end:]
    begins = template[: 2 + template[1]]
    try:
        context = tenseal().context_from(begins + b"\x12" + varint(len(outer)) + outer, n_threads=1)
    except LOADING as error:
        raise WireError(f"not a BFV key: {error}") from error
    if context.is_private() or not context.has_public_key() or _serialized(context) != _serialized(make_keys()):
        raise PrivacyError(OTHER_TENSEAL)
    return context


def key_id(public: bytes) -> bytes:
    """32 bytes that name a key pair: SHA-256 of what is published of it."""
    return hashlib.sha256(b"edgeward bfv key" + public).digest()


def evenly(nonce: bytes) -> np.ndarray:
    """uint64 (moduli, DEGREE): the a of a key, even below each modulus, from SHAKE-256."""
    found = np.zeros((len(KEY_MODULI), DEGREE), np.uint64)
    for row, modulus in enumerate(KEY_MODULI):
        # Of 54 bits nearly all numbers are below the modulus; the few that are not are left out.
        drawn = hashlib.shake_256(b"edgeward bfv a %d" % row + nonce).digest(8 * (DEGREE + 64))
        numbers = np.frombuffer(drawn, "<u8") >> np.uint64(64 - _BITS)
        below = numbers[numbers < modulus]
        if len(below) < DEGREE:
            raise WireError("this nonce makes no key")  # with probability 2^-1000
        found[row] = below[:DEGREE]
    return found


def _serialized(context: Any, public: bool = False, secret: bool = False) -> bytes:
    return bytes(
        context.serialize(save_public_key=public, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False)
    )


def _public_key(context: bytes) -> Tuple[Tuple[int, int], bytes]:
    """(where the public key is in a context of ours, what SEAL says of it and its numbers).

    TenSEAL: protobuf with parameters (1), public part (2) with the key first (1), secret part (3) with its key first (1).
    """
    start, _ = _field(context, 2 + context[1], 0x12)
    start, end = _field(context, start, 0x0A)
    return (start, end), members_of(context[start:end])


def _secret_key(context: bytes) -> bytes:
    _, end = _field(context, 2 + context[1], 0x12)
    start, _ = _field(context, end, 0x1A)
    start, end = _field(context, start, 0x0A)
    return members_of(context[start:end])


def _field(data: bytes, at: int, tag: int) -> Tuple[int, int]:
    """Where the content of the field at a place begins and ends."""
    if data[at] != tag:
        raise PrivacyError(OTHER_TENSEAL)
    length, shift, at = 0, 0, at + 1
    while True:
        length |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return at, at + length


def members_of(sealed: bytes) -> bytes:
    """What is behind SEAL's header, unpacked; of objects of our own only."""
    import zstandard

    magic, header_bytes, _, _, compression, _, length = HEADER.unpack_from(sealed)
    if (magic, header_bytes, length) != (MAGIC, HEADER.size, len(sealed)):
        raise PrivacyError(OTHER_TENSEAL)
    members = sealed[HEADER.size :]
    return members if compression == STORED else zstandard.ZstdDecompressor().decompressobj().decompress(members)


def _numbers(members: bytes, polynomials: int) -> np.ndarray:
    """uint64 (polynomials, moduli, DEGREE): those at the end."""
    size = polynomials * len(KEY_MODULI) * DEGREE
    return np.frombuffer(members[-8 * size :], "<u8").reshape(polynomials, len(KEY_MODULI), DEGREE)


def varint(value: int) -> bytes:
    """As protobuf writes lengths."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts + bytes([value]))
