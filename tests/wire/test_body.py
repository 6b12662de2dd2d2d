import contextlib
from typing import Dict

import cbor2
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import WireError
from orchestrator.wire.body import decode_body, encode_body, require

MAX = 1 << 20


def body_of(header: bytes, rest: bytes = b"") -> bytes:
    content = len(header).to_bytes(4, "little") + header + rest
    return b"EWB\x01" + zstandard.ZstdCompressor().compress(content)


def test_a_body_comes_back_as_it_went() -> None:
    tensors: Dict[str, np.ndarray] = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4), np.int8),
    }
    header, back = decode_body(encode_body({"kind": "x", "n": 3, "s": ["a", None, 2.5]}, tensors), MAX)
    assert header == {"kind": "x", "n": 3, "s": ["a", None, 2.5]}
    assert {k: (v.dtype, v.shape) for k, v in back.items()} == {k: (v.dtype, v.shape) for k, v in tensors.items()}
    np.testing.assert_array_equal(back["w"], tensors["w"])


def test_another_version_is_refused_naming_both() -> None:
    body = bytearray(encode_body({"kind": "x"}))
    body[3] = 9
    with pytest.raises(WireError, match="version 9.*version 1"):
        decode_body(bytes(body), MAX)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = b"EWB\x01" + zstandard.ZstdCompressor().compress(bytes(100 << 20))
    assert len(bomb) < 20_000
    with pytest.raises(WireError, match="announces 104857600 bytes, at most 1048576"):
        decode_body(bomb, MAX)


def test_a_frame_that_hides_its_size_is_refused() -> None:
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(WireError, match="does not state its size"):
        decode_body(b"EWB\x01" + hidden, MAX)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (cbor2.dumps([1]), "expected a map"),
        (cbor2.dumps({"x": cbor2.CBORTag(4000, 1)}), "plain CBOR types"),
        (cbor2.dumps({1: 2}), "key that is not text"),
        (b"\xff", "not CBOR|expected a map"),
        (cbor2.dumps({"tensors": 3}), "not a list"),
        (cbor2.dumps({"tensors": [["w", "float32", [1 << 30]]]}), "past the end"),
        (cbor2.dumps({"tensors": [["w", "object", [1]]]}), "dtype"),
        (cbor2.dumps({"tensors": [["w", "float32", [-1]]]}), "shape"),
    ],
)
def test_a_bad_header_is_refused_with_its_reason(header: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_body(body_of(header), MAX)


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 10**400])
def test_a_number_nothing_could_be_computed_with_is_refused(number: int) -> None:
    """As a count of parameters, or of rounds, it would end the process that made a float of it."""
    with pytest.raises(WireError, match="number of more than 64 bits|holds the tag 2"):
        decode_body(encode_body({"task": {"training": {"parameters": number}}}), MAX)
    assert decode_body(encode_body({"n": (1 << 63) - 1, "m": -(1 << 63)}), MAX)[0] == {
        "n": (1 << 63) - 1,
        "m": -(1 << 63),
    }


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(WireError, match="5 bytes follow"):
        decode_body(body_of(cbor2.dumps({"tensors": []}), b"extra"), MAX)


@given(st.binary(max_size=300))
def test_garbage_only_ever_raises_wire_errors(garbage: bytes) -> None:
    for candidate in (garbage, b"EWB\x01" + garbage, body_of(garbage)):
        try:
            decode_body(candidate, MAX)
        except WireError:
            continue


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_byte_never_goes_unnoticed_as_another_error(position: int, change: int) -> None:
    body = bytearray(encode_body({"kind": "x"}, {"w": np.arange(20, dtype=np.float32)}))
    body[position % len(body)] ^= change
    with contextlib.suppress(WireError):
        decode_body(bytes(body), MAX)


@pytest.mark.parametrize("value", [None, "3", True])
def test_require_names_the_field(value: object) -> None:
    with pytest.raises(WireError, match=r"'round' is .*expected int"):
        require({"kind": "update", "round": value}, "round", int)
