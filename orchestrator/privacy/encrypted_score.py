"""A linear model scores records it cannot read: the client encrypts, the server multiplies and adds, the client decrypts.

    client   Client.make()        public_context() to the server; encrypt(records); decrypt(answer) -> logits
    server   Server(public)       score(request, kernel, bias) -> answer

Feature j of every record is one block, each record's value in as many slots as there are classes, and the server computes
sum_j block_j * kernel[j] + bias: one product deep, and without the keys for rotations that a product with a matrix
needs. So a block for every feature goes up, 256 KiB each, and one comes back, for one record or for SLOTS / classes of them.

The server learns how many records, features and classes there are, nothing of the records, as long as CKKS holds and nothing that
depends on an answer comes back to it. The client learns logits. That is the model: features + 1 records of its choice give a
system of equations for the weights, and the error in one answer depends on them too. This hides records from the model's owner,
not the model from the client.

The server is trusted to answer with its model: nothing shows that it did. A lying one puts into the slots of the logits what it
likes, a function of the record or of the secret key, and unlike a sum of whole numbers (ckks.py) a logit can have any value, so
the client cannot tell. What it decrypts is then an answer to the server's question, which only harms if the server hears it. So
a pair of keys opens one answer, ever: what a server hears of one does not add up with what it heard of others, nor open them.
Slots without a logit must be empty, which leaves a lying server no more room than records * classes numbers.

Logits must not go back to the server, or to anybody who has the answer: already honest ones give away the key in the error CKKS
leaves on them (Li and Micciancio 2021, see ckks.py), of which rounding to STEP takes most, and those of a lying server can be the
key itself. A label is at most what it looks like: one word for each record, on a question the server chose.
"""

import hashlib
import struct
from typing import Any, Callable, Iterator, Tuple

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
    load_secret,
    make_keys,
    public_bytes,
    secret_bytes,
)

PARAMETERS = Parameters((60, 60, 60), 48)
"""Scale 2^48 for records and weights, 2^96 for logits: 23 of the 120 bits are left for them with their sign."""

LARGEST_INPUT = 2.0**10
LARGEST_LOGIT = 2.0**22
STEP = 2.0**-21
"""Decrypted logits are multiples of it. Half of it is well below 1e-6, and far above the error of CKKS: 1e-10 was measured."""

MOST_FEATURES = 1024

_SECRET_MAGIC, _PUBLIC_MAGIC = b"EWS1", b"EWP1"
_HEADER = struct.Struct("<4s32sIII")  # kind, key, records, features, classes
_REQUEST_MAGIC, _ANSWER_MAGIC = b"EWR1", b"EWA1"


class Client:
    """The side with the secret key, and the records. Its keys are for one request, and open one answer."""

    def __init__(
        self, context: Any, public: bytes, opened: bytes = b"", note: Callable[[bytes], None] = lambda _: None
    ) -> None:
        """opened: SHA-256 of the answer these keys have opened. note: called with that before an answer is decrypted."""
        self.context, self._public = context, public
        self.request, self.answer = _formats(context)
        self._opened, self._note = opened, note
        self.key_id = key_id(public)

    @classmethod
    def make(cls) -> "Client":
        """A client with new keys."""
        context = make_keys(PARAMETERS)
        return cls(context, _PUBLIC_MAGIC + public_bytes(context))

    @classmethod
    def from_files(
        cls, secret: bytes, public: bytes, opened: bytes = b"", note: Callable[[bytes], None] = lambda _: None
    ) -> "Client":
        """From `secret_key`, `public_context`, and what was noted. Raises WireError or PrivacyError for other files."""
        if secret[:4] != _SECRET_MAGIC:
            raise WireError("this is no secret key of `edgeward score`")
        if secret[4:36] != key_id(public):
            raise PrivacyError("secret key and public context belong to different pairs")
        return cls(load_secret(secret[36:], PARAMETERS), public, opened, note)

    def secret_key(self) -> bytes:
        """For a file that nobody else reads. Its 32 bytes after the first four name the public context."""
        return _SECRET_MAGIC + self.key_id + secret_bytes(self.context)

    def public_context(self) -> bytes:
        return self._public

    def encrypt(self, records: np.ndarray, classes: int) -> bytes:
        """float64 (records, features), standardized -> request.

        Raises PrivacyError for a shape or value that does not fit, and once an answer was opened with these keys.
        """
        if self._opened:
            raise PrivacyError("these keys have opened an answer, and open no other: make new ones for another request")
        if records.ndim != 2 or not 1 <= records.shape[1] <= MOST_FEATURES or classes < 1:
            raise PrivacyError(
                f"records of shape {records.shape}; accepted are (records, 1 to {MOST_FEATURES} features)"
            )
        count, features = records.shape
        if not 1 <= count * classes <= SLOTS:
            raise PrivacyError(
                f"{count} records for {classes} classes; a request holds 1 to {SLOTS // classes}: send several"
            )
        if not np.all(np.abs(records) <= LARGEST_INPUT):
            row, column = np.argwhere(~(np.abs(records) <= LARGEST_INPUT))[0]
            raise PrivacyError(
                f"record {row + 1}, feature {column + 1} is {records[row, column]:g} after standardization; accepted is "
                f"-{LARGEST_INPUT:g} to {LARGEST_INPUT:g}"
            )
        blocks = (encrypt_block(self.context, np.repeat(records[:, j], classes)) for j in range(features))
        header = _HEADER.pack(_REQUEST_MAGIC, self.key_id, count, features, classes)
        return b"".join([header, *(self.request.dump(block) for block in blocks)])

    def decrypt(self, answer: bytes) -> np.ndarray:
        """float64 (records, classes): logits, rounded to STEP; the same answer again gives the same.

        Raises PrivacyError for another key's answer, for garbage, and for a second answer.
        """
        count, _, classes, blocks = _open(answer, _ANSWER_MAGIC, self.key_id, self.answer.block_bytes)
        block = self.answer.load(next(blocks))
        digest = hashlib.sha256(answer).digest()
        if self._opened not in (b"", digest):
            raise PrivacyError(
                "these keys have opened another answer: a server that lied could ask about the secret key, one answer at a time"
            )
        if not self._opened:
            self._note(digest)  # before anything is decrypted: garbage is an answer, too
            self._opened = digest
        values = decrypt_block(self.context, block)
        logits, rest = values[: count * classes], values[count * classes :]
        if not np.all(np.abs(logits) <= LARGEST_LOGIT) or np.any(np.abs(rest) > STEP):
            raise PrivacyError("this answer does not decrypt to logits: it was changed, or made with another key")
        return np.asarray(np.rint(logits.reshape(count, classes) / STEP) * STEP + 0.0)  # no -0


class Server:
    """The side with the model. Has the public context only, and refuses one with a secret key in it."""

    def __init__(self, public_context: bytes) -> None:
        if public_context[:4] != _PUBLIC_MAGIC:
            raise WireError("this is no public context of `edgeward score`")
        self.context = load_public(public_context[4:], PARAMETERS)
        self.request, self.answer = _formats(self.context)
        self.key_id = key_id(public_context)

    def score(self, request: bytes, kernel: np.ndarray, bias: np.ndarray) -> bytes:
        """`kernel` (features, classes), `bias` (classes,) -> the encrypted logits x @ kernel + bias of every record.

        Raises WireError or PrivacyError for an invalid request, for another key or another number of features or classes.
        """
        kernel, bias = np.asarray(kernel, np.float64), np.asarray(bias, np.float64)
        count, features, classes, blocks = _open(request, _REQUEST_MAGIC, self.key_id, self.request.block_bytes)
        if kernel.shape != (features, classes) or bias.shape != (classes,):
            raise PrivacyError(
                f"the records have {features} features for {classes} classes, the model {kernel.shape[0]} for {bias.size}: "
                "encrypt them with this model's manifest"
            )
        largest = np.max(np.abs(kernel).sum(axis=0) * LARGEST_INPUT + np.abs(bias))
        if not largest < LARGEST_LOGIT:
            raise PrivacyError(
                f"this model can give logits of {largest:g}; encrypted scores take up to {LARGEST_LOGIT:g}"
            )
        # Encrypted here, so that the answer is under fresh randomness; times one, for the scale of a product.
        total = encrypt_block(self.context, np.tile(bias, count))
        total.mul_(np.ones(SLOTS).tolist())
        for block, weights in zip(blocks, kernel):
            vector = self.request.load(block)
            if np.any(weights):
                plain = np.zeros(SLOTS)
                plain[: count * classes] = np.tile(weights, count)
                total.add_(vector.mul_(plain.tolist()))
        return _HEADER.pack(_ANSWER_MAGIC, self.key_id, count, features, classes) + self.answer.dump(total)


def read_shape(request: bytes) -> Tuple[int, int, int]:
    """(records, features, classes) a request or an answer says it is about."""
    if len(request) < _HEADER.size or request[:4] not in (_REQUEST_MAGIC, _ANSWER_MAGIC):
        raise WireError("these bytes are no encrypted records of Edgeward")
    _, _, count, features, classes = _HEADER.unpack_from(request)
    return int(count), int(features), int(classes)


def _formats(context: Any) -> Tuple[BlockFormat, BlockFormat]:
    """Of what goes up, and of products."""
    example = encrypt_block(context, np.zeros(SLOTS))
    request = BlockFormat(context, example)
    example.mul_(np.ones(SLOTS).tolist())
    return request, BlockFormat(context, example)


def _open(data: bytes, magic: bytes, key: bytes, block_bytes: int) -> Tuple[int, int, int, Iterator[bytes]]:
    """Records, features, classes and blocks, once all of it fits together."""
    what = "a request" if magic == _REQUEST_MAGIC else "an answer"
    if len(data) < _HEADER.size or data[:4] != magic:
        raise WireError(f"these bytes are not {what} of `edgeward score`")
    _, found, count, features, classes = _HEADER.unpack_from(data)
    if found != key:
        raise PrivacyError(f"{what} for key {found.hex()[:16]}, this key is {key.hex()[:16]}")
    blocks = features if magic == _REQUEST_MAGIC else 1
    if not (1 <= features <= MOST_FEATURES and classes >= 1 and 1 <= count * classes <= SLOTS):
        raise WireError(f"{what} of {count} records with {features} features and {classes} classes")
    if len(data) != _HEADER.size + blocks * block_bytes:
        raise WireError(
            f"{what} of {len(data)} bytes, {_HEADER.size + blocks * block_bytes} belong to its {blocks} blocks"
        )
    starts = range(_HEADER.size, len(data), block_bytes)
    return count, features, classes, (data[start : start + block_bytes] for start in starts)
