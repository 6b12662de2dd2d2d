"""Ed25519 signatures of model.bin, and the key files they are made with.

Signed are the bytes [0, 80) of the header: sizes, sections, flags and the SHA-256 of all that follows the header. The
operator list and the name are outside the signature; a board uses neither to run a model. Where the input profile lies is
bound by the rule that the sections of a signed file follow one another without a gap and end where the file does.
firmware/core/ed25519.h checks the same on a board.

What a bundle says around its model, labels and scales included, is signed as well: manifest.sig holds a signature of the bytes of
manifest.json, which has the digests of all other files, and the public key that checks it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from model_export.bundle_check import check_files
from model_export.errors import BundleError, ExportError
from model_export.manifest import MANIFEST, SIGNATURE, dump_manifest, read_manifest
from model_export.model_bin import (
    ALIGNMENT,
    FLAG_SIGNED,
    HEADER_BYTES,
    SIGNED_PREFIX_BYTES,
    ModelBin,
    ModelBinError,
    parse_model_bin,
)

_MANIFEST_CONTEXT = b"edgeward manifest 1\n"
_MOST_SIGNATURE_BYTES = 1000
_FLAGS_AT = 44
_PROFILE_AT = 244
_CRC_AT = 252


class SignatureError(ModelBinError):
    """A model.bin without a signature, or with one that another key made."""


class KeyFileError(ExportError):
    """Not a usable file of an Ed25519 key. The message names the file."""


def sign_model_bin(data: bytes, private_key: Ed25519PrivateKey) -> bytes:
    """`data`, a whole model.bin, with its signature set or replaced; nothing else changes. Raises ModelBinError."""
    parse_model_bin(data)
    check_gapless(data)
    header = bytearray(data[:HEADER_BYTES])
    struct.pack_into("<I", header, _FLAGS_AT, FLAG_SIGNED)
    header[SIGNED_PREFIX_BYTES : SIGNED_PREFIX_BYTES + 64] = private_key.sign(bytes(header[:SIGNED_PREFIX_BYTES]))
    struct.pack_into("<I", header, _CRC_AT, zlib.crc32(header[:_CRC_AT]))
    return bytes(header) + data[HEADER_BYTES:]


def verify_model_bin(data: bytes, public_key: Ed25519PublicKey) -> ModelBin:
    """The parsed file, if `public_key` signed it.

    Raises SignatureError if it did not, ModelBinError for a file that is damaged.
    """
    parsed = parse_model_bin(data)
    if parsed.signature is None:
        raise SignatureError(f"{parsed.name} is not signed")
    check_gapless(data)
    try:
        public_key.verify(parsed.signature, data[:SIGNED_PREFIX_BYTES])
    except InvalidSignature:
        raise SignatureError(
            f"the signature of {parsed.name} at offset {SIGNED_PREFIX_BYTES} was not made by key {key_id(public_key)}"
        ) from None
    return parsed


def check_gapless(data: bytes) -> None:
    """Raises ModelBinError unless the sections of a parsed model.bin lie one after the other up to its end."""
    end = HEADER_BYTES
    for at in (20, 28, 36, _PROFILE_AT):
        offset, count = struct.unpack_from("<II", data, at)
        if count:
            if offset != end:
                raise ModelBinError(f"section at offset {at}: begins at {offset}, the one before it ends at {end}")
            end = -(-(offset + count) // ALIGNMENT) * ALIGNMENT
    if end != len(data):
        raise ModelBinError(f"the sections end at {end} of {len(data)} bytes")


def manifest_signature(
    manifest: bytes, sign: Callable[[bytes], bytes], public_key: Optional[Ed25519PublicKey] = None
) -> bytes:
    """The bytes of manifest.sig. Without `public_key` only who has the key can check it."""
    known = "" if public_key is None else raw_public(public_key).hex()
    return (json.dumps({"public_key": known, "signature": sign(_MANIFEST_CONTEXT + manifest).hex()}) + "\n").encode()


def check_bundle_signature(folder: Path, signed: bool, public_key: Optional[Ed25519PublicKey] = None) -> str:
    """The id of the key that signed manifest and model of a bundle, "" where nobody did; `signed`: whether its model.bin is.

    With `public_key`, only that key. Raises SignatureError, or BundleError for a signature that is not whole.
    """
    path = folder / SIGNATURE
    if not signed and not path.exists():
        if public_key is not None:
            raise SignatureError(f"{folder}: is not signed")
        return ""
    if not (signed and path.is_file()):
        lacking = "model.bin" if path.exists() else SIGNATURE
        raise BundleError(
            f"{folder}: is signed in part, without {lacking}, so nobody vouches for the whole; `edgeward model sign` signs both"
        )
    key, signature = _read_signature(path)
    key = public_key or key
    if key is None:
        raise SignatureError(f"{path}: does not say whose it is; give the public key with --key")
    try:
        key.verify(signature, _MANIFEST_CONTEXT + (folder / MANIFEST).read_bytes())
    except InvalidSignature:
        raise SignatureError(f"{path}: key {key_id(key)} did not sign this {MANIFEST}") from None
    verify_model_bin((folder / "model.bin").read_bytes(), key)
    return key_id(key)


def _read_signature(path: Path) -> Tuple[Optional[Ed25519PublicKey], bytes]:
    try:
        content = path.read_bytes()
        if len(content) > _MOST_SIGNATURE_BYTES:
            raise ValueError("too long")
        found = json.loads(content)
        known, signature = bytes.fromhex(found["public_key"]), bytes.fromhex(found["signature"])
        return (Ed25519PublicKey.from_public_bytes(known) if known else None), signature
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BundleError(f"{path}: is no signature as `edgeward model sign` writes it") from None


def sign_bundle(folder: Path, private_key: Ed25519PrivateKey) -> Dict[str, Any]:
    """Sign a bundle in place: model.bin, whose new SHA-256 goes into the manifest, and the manifest, which is returned.

    Each file is replaced at once, model.bin first: cut short in between, `verify_bundle` says which file differs.
    """
    manifest = check_files(folder)
    signed = sign_model_bin((folder / "model.bin").read_bytes(), private_key)
    manifest["files"]["model.bin"]["sha256"] = hashlib.sha256(signed).hexdigest()
    replace_file(folder / "model.bin", signed)
    return replace_manifest(folder, manifest, private_key)


def replace_manifest(
    folder: Path, manifest: Mapping[str, Any], private_key: Optional[Ed25519PrivateKey] = None
) -> Dict[str, Any]:
    """Write another manifest.json into a bundle, with its own digest, and sign it; returns it as it is read back.

    Without a key a signature that is there no longer holds, and `verify_bundle` says so until the bundle is signed again.
    """
    written = dump_manifest({key: value for key, value in manifest.items() if key != "manifest_sha256"})
    replace_file(folder / MANIFEST, written)
    if private_key is not None:
        signature = manifest_signature(written, private_key.sign, private_key.public_key())
        replace_file(folder / SIGNATURE, signature)
    return read_manifest(folder)


def raw_public(key: Ed25519PublicKey) -> bytes:
    """The 32 bytes a board keeps."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def key_id(key: Ed25519PublicKey) -> str:
    """How boards and messages name a key: the first 8 bytes of the SHA-256 of its 32 bytes, as hex."""
    return hashlib.sha256(raw_public(key)).hexdigest()[:16]


def generate_key(private_file: Path, public_file: Path) -> Ed25519PublicKey:
    """Write a new key pair: PKCS#8 PEM that only its owner may read, and SubjectPublicKeyInfo PEM.

    Raises KeyFileError if one of the files is there already or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public_file.exists():
        raise KeyFileError(f"{public_file}: is there already; an existing key is never overwritten")
    made: List[Path] = []
    for path, content, mode in ((private_file, secret, 0o600), (public_file, public, 0o644)):
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                made.append(path)
                stream.write(content)
        except FileExistsError:
            raise KeyFileError(f"{path}: is there already; an existing key is never overwritten") from None
        except OSError as error:
            for each in made:  # half a pair is in the way of a whole one
                each.unlink()
            raise KeyFileError(f"{path}: cannot be written: {error.strerror}") from error
    return key.public_key()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """From PEM (PKCS#8, no password). Raises KeyFileError."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: is no private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: holds a {type(key).__name__}; accepted is an Ed25519 key")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """From PEM: a public key, or a private one, of which the public half counts. Raises KeyFileError."""
    content = _read(path)
    if b"PRIVATE KEY" in content:
        return read_private_key(path).public_key()
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError as error:
        raise KeyFileError(f"{path}: is no public key in PEM: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: holds a {type(key).__name__}; accepted is an Ed25519 key")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Atomically."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(stream.name, 0o644)
    os.replace(stream.name, path)
