"""model.bin: what is packed comes back, the layout is the documented one, and one changed bit never passes."""

import dataclasses
import hashlib
import struct
import zlib
from typing import Any, Callable, List

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_export.errors import ExportError
from model_export.input_profile import make_profile, pack_profile, parse_profile
from model_export.model_bin import ALIGNMENT, KnownAnswers, ModelBinError, pack_model_bin, parse_model_bin


def tiny_tflite() -> bytes:
    """The smallest .tflite there is: one subgraph without tensors, as the flatbuffers package writes it."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = [], [], []
    codes: List[Any] = []
    graph.operators = []
    for code in (22, 9, 9):
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 1
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(codes), [], []
        codes.append(entry)
        graph.operators.append(op)
    model.operatorCodes, model.subgraphs = codes, [graph]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.fixture(scope="module")
def packed() -> bytes:
    answers = KnownAnswers(np.arange(6, dtype=np.int8).reshape(2, 3), np.array([[-128], [127]], np.int8))
    return pack_model_bin(
        name="herz-é", tflite=tiny_tflite(), arena_tflm_bytes=4096, plan=b"PLAN!", arena_direct_bytes=77,
        known_answers=answers, sign=lambda head: bytes([len(head)]) * 64,
    )  # fmt: skip


def test_what_is_packed_comes_back(packed: bytes) -> None:
    model = parse_model_bin(packed)
    assert model.name == "herz-é"
    assert model.tflite == tiny_tflite()
    assert model.plan == b"PLAN!"
    assert (model.arena_tflm_bytes, model.arena_direct_bytes) == (4096, 77)
    assert model.operator_codes == (9, 22)
    assert model.signature == bytes([80]) * 64
    assert model.known_answers is not None
    np.testing.assert_array_equal(model.known_answers.inputs, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(model.known_answers.outputs, [[-128], [127]])
    assert model.digest == hashlib.sha256(packed[256:]).hexdigest()[:16]


def test_layout_is_the_documented_one(packed: bytes) -> None:
    def u32(at: int) -> int:
        return int(struct.unpack_from("<I", packed, at)[0])

    assert packed[:8] == b"EWMB\x01\x00\x00\x01"
    assert u32(8) == len(packed)
    assert (u32(12), u32(16)) == (4096, 77)
    tflite, plan, answers = ((u32(at), u32(at + 4)) for at in (20, 28, 36))
    assert tflite == (256, len(tiny_tflite()))
    assert packed[plan[0] : sum(plan)] == b"PLAN!"
    assert packed[answers[0] : sum(answers)] == struct.pack("<III", 2, 3, 1) + b"\0\1\2\x80\3\4\5\x7f"
    assert all(offset % 16 == 0 for offset, _ in (tflite, plan, answers))
    assert u32(44) == 1
    assert packed[48:80] == hashlib.sha256(packed[256:]).digest()
    assert struct.unpack_from("<HHHHH", packed, 144) == (2, 0, 9, 22, 0)
    assert packed[212:244].rstrip(b"\0").decode() == "herz-é"
    assert u32(252) == zlib.crc32(packed[:252])


def test_unsigned_without_plan_and_answers() -> None:
    model = parse_model_bin(pack_model_bin(name="a", tflite=tiny_tflite(), arena_tflm_bytes=1))
    assert (model.plan, model.known_answers, model.signature) == (None, None, None)


def test_every_flipped_bit_is_detected(packed: bytes) -> None:
    for bit in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ModelBinError):
            parse_model_bin(bytes(damaged))


def test_every_truncation_is_detected(packed: bytes) -> None:
    for keep in range(len(packed)):
        with pytest.raises(ModelBinError):
            parse_model_bin(packed[:keep])
    with pytest.raises(ModelBinError, match="offset 8"):
        parse_model_bin(packed + b"\0")


@settings(max_examples=300)
@example(24, b"\x1d")  # a length with a byte of the padding behind it
@given(st.integers(4, 251), st.binary(min_size=1, max_size=8))
def test_consistent_but_wrong_headers_are_refused_or_harmless(at: int, patch: bytes) -> None:
    """With the CRC put right, a wrong field is still named or lies in a field that may hold anything."""
    packed = pack_model_bin(name="a", tflite=tiny_tflite(), arena_tflm_bytes=1)
    header = bytearray(packed[:252])
    header[at : at + len(patch)] = patch
    header = header[:252]
    blob = bytes(header) + struct.pack("<I", zlib.crc32(bytes(header))) + packed[256:]
    try:
        model = parse_model_bin(blob)
    except ModelBinError:
        return
    assert dataclasses.is_dataclass(model)
    assert (tiny_tflite() + bytes(ALIGNMENT - 1)).startswith(model.tflite), (
        "the model, cut off, or with zeros behind it"
    )


@pytest.mark.parametrize("name", ["", "x" * 33, 'a"b', "a\nb", "a\\b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ModelBinError, match="name"):
        pack_model_bin(name=name, tflite=tiny_tflite(), arena_tflm_bytes=1)


def test_an_input_profile_is_carried_and_checked(int8_blob: Callable[[str], bytes]) -> None:
    rows = np.random.default_rng(0).integers(-128, 128, (50, 13)).astype(np.int8)
    features = [{"name": f"f{i}", "mean": i / 3, "std": 1 + i} for i in range(13)]
    profile = make_profile((1, 13), features, rows)
    packed = pack_model_bin(name="m", tflite=int8_blob("mlp"), arena_tflm_bytes=1, input_profile=profile)
    found = parse_model_bin(packed).input_profile
    assert found is not None
    for key in ("mean", "std", "edges", "shares"):
        np.testing.assert_array_equal(getattr(found, key), getattr(profile, key))
    assert (found.channels, found.rows) == (13, 50)
    assert (found.shares.sum(axis=1) > 65500).all()
    section = pack_profile(profile)
    for keep in range(len(section)):
        with pytest.raises(ExportError, match="input profile"):
            parse_profile(section[:keep])


def test_a_file_without_input_profile_is_as_before(int8_blob: Callable[[str], bytes]) -> None:
    packed = pack_model_bin(name="m", tflite=int8_blob("mlp"), arena_tflm_bytes=1)
    assert packed[244:252] == bytes(8)
    assert parse_model_bin(packed).input_profile is None
