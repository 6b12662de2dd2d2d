"""Signatures of model.bin: made, checked, and refused after any change to what they cover."""

import struct
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_model_bin import tiny_tflite

from model_export.model_bin import ModelBinError, pack_model_bin, parse_model_bin
from model_export.signing import (
    KeyFileError,
    SignatureError,
    generate_key,
    key_id,
    read_private_key,
    read_public_key,
    sign_model_bin,
    verify_model_bin,
)


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def plain() -> bytes:
    return pack_model_bin(name="tiny", tflite=tiny_tflite(), arena_tflm_bytes=4096)


def with_crc(data: bytes) -> bytes:
    return data[:252] + struct.pack("<I", zlib.crc32(data[:252])) + data[256:]


def test_signing_changes_flag_signature_and_crc_only(plain: bytes, key: Ed25519PrivateKey) -> None:
    signed = sign_model_bin(plain, key)
    changed = {i for i, (a, b) in enumerate(zip(plain, signed)) if a != b}
    assert changed <= {44} | set(range(80, 144)) | set(range(252, 256))
    assert verify_model_bin(signed, key.public_key()).digest == parse_model_bin(plain).digest
    assert sign_model_bin(signed, key) == signed  # Ed25519 is deterministic


def test_packing_with_the_same_key_gives_the_same_file(plain: bytes, key: Ed25519PrivateKey) -> None:
    packed = pack_model_bin(name="tiny", tflite=tiny_tflite(), arena_tflm_bytes=4096, sign=key.sign)
    assert packed == sign_model_bin(plain, key)


def test_unsigned_and_foreign_are_told_apart(plain: bytes, key: Ed25519PrivateKey) -> None:
    with pytest.raises(SignatureError, match="not signed"):
        verify_model_bin(plain, key.public_key())
    other = Ed25519PrivateKey.generate()
    with pytest.raises(SignatureError, match=key_id(key.public_key())):
        verify_model_bin(sign_model_bin(plain, other), key.public_key())


@pytest.mark.parametrize("at", [12, 16])  # fields no other check depends on: the arenas
def test_a_signed_field_cannot_change(plain: bytes, key: Ed25519PrivateKey, at: int) -> None:
    signed = bytearray(sign_model_bin(plain, key))
    signed[at] ^= 1
    with pytest.raises(SignatureError):
        verify_model_bin(with_crc(bytes(signed)), key.public_key())


def test_a_profile_cannot_be_slipped_in(plain: bytes, key: Ed25519PrivateKey) -> None:
    # The place of the input profile is outside the 80 bytes: pointing it at other bytes of the file must not pass.
    signed = bytearray(sign_model_bin(plain, key))
    signed[244:252] = struct.pack("<II", len(plain) - 16, 16)
    with pytest.raises(ModelBinError):
        verify_model_bin(with_crc(bytes(signed)), key.public_key())


def test_key_files(tmp_path: Path, plain: bytes) -> None:
    public = generate_key(tmp_path / "k", tmp_path / "k.pub")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    signed = sign_model_bin(plain, read_private_key(tmp_path / "k"))
    for file in ("k", "k.pub"):
        verify_model_bin(signed, read_public_key(tmp_path / file))
    assert key_id(read_public_key(tmp_path / "k.pub")) == key_id(public)
    with pytest.raises(KeyFileError, match="already"):
        generate_key(tmp_path / "k", tmp_path / "other")
    (tmp_path / "junk").write_text("no key")
    for read in (read_private_key, read_public_key):
        with pytest.raises(KeyFileError, match="junk"):
            read(tmp_path / "junk")
        with pytest.raises(KeyFileError, match="No such file"):
            read(tmp_path / "absent")
