"""The files of a search for similar patients: a question, signed by who asks, and an owner's answer to it, signed by the owner.

A file is a magic word, the length of a head in JSON, the head, a body of fixed sizes, a signature over all of that, and its
length.
"""

import hashlib
import json
import struct
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from orchestrator.errors import WireError
from orchestrator.privacy.bfv_blocks import QUESTION_BYTES
from orchestrator.privacy.bfv_keys import PUBLIC_BYTES
from orchestrator.privacy.similar import answer_bytes
from orchestrator.privacy.similar_cells import COUNTS, DISTANCES, MOST_CELLS, SHOWN, Group, shift_of
from orchestrator.wire.plain import plain

MOST_PATIENTS = 64
"""In one question."""

MOST_QUESTION_BYTES = PUBLIC_BYTES + MOST_PATIENTS * QUESTION_BYTES + (1 << 16)
MOST_ANSWER_BYTES = 1 << 31
MOST_DISTANCE, MOST_GROUPS, MOST_SHIFT = 256, 1 << 16, 1 << 16

_QUESTION, _ANSWER, _KEY = b"EWSIMQ1\n", b"EWSIMA1\n", b"EWSIMK1\n"
_CODES = struct.Struct("<HH")  # patients, bits
_LENGTH, _SIGNATURE = struct.Struct("<I"), struct.Struct("<H")
_MOST_HEAD = 8 << 20
Sign = Callable[[bytes], bytes]


class Party(NamedTuple):
    """Who signed: a name, and what the key is known by (a public key, or a certificate)."""

    name: str
    credential: bytes


class Question(NamedTuple):
    """coder: the digest of the coder that made the codes. blocks: one for each patient. signed: SHA-256 of what is signed."""

    party: Party
    coder: str
    bits: int
    public: bytes
    blocks: List[bytes]
    digest: str
    signed: bytes
    signature: bytes


class Answer(NamedTuple):
    """question: the digest of the file that is answered. blocks: of each patient, all of its cells. signed: as of `Question`."""

    party: Party
    question: str
    coder: str
    bits: int
    show: str
    within: int
    epsilon: float
    shift: int
    groups: List[Group]
    blocks: List[bytes]
    signed: bytes
    signature: bytes

    @property
    def cells(self) -> int:
        """Of one patient."""
        return sum(group.cells for group in self.groups)


def write_question(party: Party, coder: str, bits: int, public: bytes, blocks: List[bytes], sign: Sign) -> bytes:
    """The file for owners."""
    head = {"coder": coder, "bits": bits, "patients": len(blocks)}
    return _written(_QUESTION, party, head, [public, *blocks], sign)


def read_question(data: bytes) -> Question:
    """WireError for anything that is no question; whose it is has still to be checked."""
    head, start, end, signature = _opened(data, _QUESTION, "a question")
    patients = _whole(head, "patients", 1, MOST_PATIENTS)
    first = start + PUBLIC_BYTES
    if end - first != patients * QUESTION_BYTES:
        raise WireError(f"a question of {patients} patients with a body of {end - start} bytes")
    blocks = [data[at : at + QUESTION_BYTES] for at in range(first, end, QUESTION_BYTES)]
    signed = hashlib.sha256(memoryview(data)[:end]).digest()
    party, coder, bits = _party(head), _hex(head, "coder"), _whole(head, "bits", 8, 256)
    return Question(party, coder, bits, data[start:first], blocks, signed.hex(), signed, signature)


def write_answer(party: Party, said: Dict[str, Any], groups: List[Group], blocks: List[bytes], sign: Sign) -> bytes:
    """The file for who asked. said: `question`, `coder`, `bits`, `show`, `within`, `epsilon` and `shift` of an `Answer`."""
    listed = [[group.label, group.distance, group.cells] for group in groups]
    return _written(_ANSWER, party, {**said, "groups": listed, "patients": len(blocks)}, blocks, sign)


def read_answer(data: bytes) -> Answer:
    """WireError for anything that is no answer; whose it is, and to what, has still to be checked."""
    head, start, end, signature = _opened(data, _ANSWER, "an answer")
    show, epsilon = head.get("show"), head.get("epsilon")
    if (
        show not in SHOWN
        or not isinstance(epsilon, (int, float))
        or isinstance(epsilon, bool)
        or not 0.01 <= epsilon <= 20
    ):
        raise WireError("an answer that does not say what it shows")
    bits, patients = _whole(head, "bits", 8, 256), _whole(head, "patients", 1, MOST_PATIENTS)
    within, shift = _whole(head, "within", 0, MOST_DISTANCE), _whole(head, "shift", 0, MOST_SHIFT)
    if shift != (shift_of(epsilon) if show == COUNTS else 0):
        raise WireError(f"shift: {shift}, which is not that of {show} with noise of epsilon {epsilon:g}")
    groups = [_group(each, show == DISTANCES, within) for each in _list(head, "groups")]
    cells = sum(group.cells for group in groups)
    size = answer_bytes(bits, cells)
    if not 1 <= cells <= MOST_CELLS or end - start != patients * size:
        raise WireError(f"an answer of {cells} cells for {patients} patients with a body of {end - start} bytes")
    blocks = [data[at : at + size] for at in range(start, end, size)]
    signed = hashlib.sha256(memoryview(data)[:end]).digest()  # an answer may be large: no copy of it
    named = (_party(head), _hex(head, "question"), _hex(head, "coder"))
    return Answer(*named, bits, show, within, float(epsilon), shift, groups, blocks, signed, signature)


def write_key(codes: np.ndarray, secret: bytes) -> bytes:
    """What stays with who asks: the codes (patients, bits) that were asked about, and the secret key."""
    return b"".join([_KEY, _CODES.pack(*codes.shape), np.asarray(codes, np.uint8).tobytes(), secret])


def read_key(data: bytes) -> Tuple[np.ndarray, bytes]:
    """What `write_key` was given. WireError for another file."""
    start = len(_KEY) + _CODES.size
    if data[: len(_KEY)] != _KEY or len(data) < start:
        raise WireError("this is no key of `edgeward similar ask`")
    patients, bits = _CODES.unpack_from(data, len(_KEY))
    codes = np.frombuffer(data[start : start + patients * bits], np.uint8)
    if codes.size != patients * bits or codes.max(initial=0) > 1:
        raise WireError("a key of `edgeward similar ask` that is damaged")
    return codes.reshape(patients, bits), data[start + patients * bits :]


def _written(magic: bytes, party: Party, head: Dict[str, Any], body: List[bytes], sign: Sign) -> bytes:
    named = {"name": party.name, "credential": party.credential.hex(), **head}
    text = json.dumps(named, sort_keys=True, allow_nan=False).encode()
    signed = b"".join([magic, _LENGTH.pack(len(text)), text, *body])
    signature = sign(hashlib.sha256(signed).digest())
    return signed + signature + _SIGNATURE.pack(len(signature))


def _opened(data: bytes, magic: bytes, what: str) -> Tuple[Dict[str, Any], int, int, bytes]:
    """(head, where the body begins, where it ends and with it what is signed, signature)."""
    if data[: len(magic)] != magic:
        raise WireError(f"these bytes are not {what} of `edgeward similar`")
    start = len(magic) + _LENGTH.size
    if len(data) < start + _SIGNATURE.size:
        raise WireError(f"{what} that was cut off")
    (length,), (signature,) = _LENGTH.unpack_from(data, len(magic)), _SIGNATURE.unpack_from(data, len(data) - 2)
    end = len(data) - _SIGNATURE.size - signature
    if length > _MOST_HEAD or start + length > end:
        raise WireError(f"{what} that was cut off, or is damaged")
    try:
        head = json.loads(data[start : start + length], parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{what} with a damaged head") from error
    if not isinstance(head, dict):
        raise WireError(f"{what} with a damaged head")
    return head, start + length, end, data[end : end + signature]


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _party(head: Dict[str, Any]) -> Party:
    name, credential = head.get("name"), head.get("credential")
    if not isinstance(name, str) or not isinstance(credential, str):
        raise WireError("a file that does not say who signed it")
    try:
        return Party(plain(name, 128), bytes.fromhex(credential))
    except ValueError as error:
        raise WireError("a file that does not say who signed it") from error


def _group(said: Any, tested: bool, within: int) -> Group:
    if not isinstance(said, list) or len(said) != 3 or not isinstance(said[0], str) or not said[0].isprintable():
        raise WireError("an answer with an invalid group")
    label, distance, cells = said
    limits = {"cells": (cells, 1, MOST_CELLS), **({"distance": (distance, 0, within)} if tested else {})}
    for name, (value, low, high) in limits.items():
        _whole({name: value}, name, low, high)
    if not tested and distance is not None:
        raise WireError("an answer that shows distances, and says that it shows counts")
    return Group(label, distance, cells)


def _whole(head: Dict[str, Any], name: str, low: int, high: int) -> int:
    value: Optional[Any] = head.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise WireError(f"{name}: expected a whole number from {low} to {high}")
    return value


def _hex(head: Dict[str, Any], name: str) -> str:
    value = head.get(name)
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise WireError(f"{name}: expected a SHA-256 of 64 hex digits")
    return value


def _list(head: Dict[str, Any], name: str) -> List[Any]:
    value = head.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_GROUPS:
        raise WireError(f"{name}: expected a list of 1 to {MOST_GROUPS}")
    return value
