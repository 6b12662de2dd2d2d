"""model.bin, what is flashed into a model slot: docs/design.md, section 9; read by firmware/core/model_header.h."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Tuple

import numpy as np

from model_export.errors import ExportError
from model_export.input_profile import InputProfile, pack_profile, parse_profile
from model_export.manifest import bundle_inside
from model_export.tflite_file import read_tflite
from model_export.trees import is_trees, parse_trees

MAGIC = b"EWMB"
VERSION = 1
HEADER_BYTES = 256
MAX_OPERATOR_CODES = 32
NAME_BYTES = 32
ALIGNMENT = 16
FLAG_SIGNED = 1
SIGNED_PREFIX_BYTES = 80

_FIXED = struct.Struct("<4sHHIIIIIIIIII32s64sHH")  # up to the operator codes
_CODES = struct.Struct(f"<{MAX_OPERATOR_CODES}H")
_TAIL = struct.Struct(f"<{NAME_BYTES}sIII")
assert _FIXED.size + _CODES.size + _TAIL.size == HEADER_BYTES


class ModelBinError(ExportError):
    """Not a usable model.bin. The message names the field and its offset."""


@dataclass(frozen=True)
class KnownAnswers:
    """Rows the board checks itself with: int8 (rows, input bytes), and int8 (rows, output bytes) as TFLM gave them."""

    inputs: np.ndarray
    outputs: np.ndarray


@dataclass(frozen=True)
class ModelBin:
    name: str
    tflite: bytes
    plan: Optional[bytes]
    known_answers: Optional[KnownAnswers]
    arena_tflm_bytes: int
    arena_direct_bytes: int
    operator_codes: Tuple[int, ...]
    sha256: bytes
    signature: Optional[bytes]
    input_profile: Optional[InputProfile] = None

    @property
    def digest(self) -> str:
        """The model digest serial records carry."""
        return self.sha256[:8].hex()


def check_model_name(name: str) -> bytes:
    """The name as the header holds it; ModelBinError for one that it cannot hold."""
    encoded = name.encode("utf-8", "surrogatepass")
    if not _name_ok(encoded):
        raise ModelBinError(
            f"model name {name!r}: needs 1 to {NAME_BYTES} bytes of UTF-8, no quotes, backslashes or control characters"
        )
    return encoded


def name_of_file(stem: str) -> str:
    """The name of a model after its file: what a header can hold of it. Raises ModelBinError where that is nothing."""
    kept = "".join(c for c in stem if c.isprintable() and c not in '"\\').encode("utf-8", "ignore")[:NAME_BYTES]
    name = kept.decode("utf-8", "ignore").strip()
    check_model_name(name)
    return name


def pack_model_bin(
    *,
    name: str,
    tflite: bytes,
    arena_tflm_bytes: int,
    plan: Optional[bytes] = None,
    arena_direct_bytes: int = 0,
    known_answers: Optional[KnownAnswers] = None,
    input_profile: Optional[InputProfile] = None,
    sign: Optional[Callable[[bytes], bytes]] = None,
) -> bytes:
    """Pack one model.bin. `sign` maps the first 80 header bytes to a 64-byte Ed25519 signature.

    `tflite` may be a model of trees (trees.py).

    Raises ModelBinError for a name or a size the format cannot hold, TfliteError or TreesError for a bad `tflite`.
    """
    trees = is_trees(tflite)
    codes = [] if trees else sorted({op.code_int for graph in read_tflite(tflite).subgraphs for op in graph.ops})
    if len(codes) > MAX_OPERATOR_CODES:
        raise ModelBinError(f"the model uses {len(codes)} operators, model.bin holds {MAX_OPERATOR_CODES}")
    encoded = check_model_name(name)
    if trees and (plan is not None or not arena_direct_bytes == arena_tflm_bytes == parse_trees(tflite).arena_bytes):
        raise ModelBinError("a model of trees has no plan, and one arena for all engines")
    if not trees and (plan is None) != (arena_direct_bytes == 0):
        raise ModelBinError("a plan and its arena_direct_bytes go together")
    body = bytearray()
    sections: List[Tuple[int, int]] = []
    answers = None if known_answers is None else _pack_answers(known_answers)
    profile = None if input_profile is None else pack_profile(input_profile)
    for content in (tflite, plan, answers, profile):
        if not content:
            sections.append((0, 0))
            continue
        sections.append((HEADER_BYTES + len(body), len(content)))
        body += content
        body += bytes(-len(body) % ALIGNMENT)
    prefix = _FIXED.pack(
        MAGIC,
        VERSION,
        HEADER_BYTES,
        HEADER_BYTES + len(body),
        arena_tflm_bytes,
        arena_direct_bytes,
        *(value for section in sections[:3] for value in section),
        FLAG_SIGNED if sign else 0,
        hashlib.sha256(body).digest(),
        bytes(64),
        len(codes),
        0,
    )
    if sign:
        signature = sign(prefix[:SIGNED_PREFIX_BYTES])
        if len(signature) != 64:
            raise ModelBinError(f"an Ed25519 signature has 64 bytes, sign() gave {len(signature)}")
        prefix = prefix[:80] + signature + prefix[144:]
    padded = codes + [0] * (MAX_OPERATOR_CODES - len(codes))
    header = prefix + _CODES.pack(*padded) + encoded.ljust(NAME_BYTES, b"\0")
    header += struct.pack("<II", *sections[3])
    return header + struct.pack("<I", zlib.crc32(header)) + bytes(body)


def model_bin_of(path: Path) -> Path:
    """The model.bin of a bundle's folder; a file is one itself. Raises ModelBinError for a folder that is no bundle."""
    if not path.is_dir():
        return path
    file = path / "model.bin"
    if not file.exists():
        raise ModelBinError(f"{path}: holds no model.bin, so it is no bundle{bundle_inside(path)}")
    return file


def parse_model_bin(blob: bytes) -> ModelBin:
    """Check and take apart a model.bin; any single changed bit raises ModelBinError. Does not verify the signature."""
    if blob[:4] != MAGIC:
        raise ModelBinError(
            f"is no model.bin ({blob[:4]!r} at offset 0 instead of {MAGIC!r}); name a bundle's folder, or the model.bin in it"
        )
    if len(blob) < HEADER_BYTES:
        raise ModelBinError(f"{len(blob)} bytes are less than the header of {HEADER_BYTES}")
    fields = _FIXED.unpack_from(blob, 0)
    _, version, header_bytes, total, arena_tflm, arena_direct = fields[:6]
    if version != VERSION:
        raise ModelBinError(f"header version at offset 4: {version}, this reader knows {VERSION}")
    if header_bytes != HEADER_BYTES:
        raise ModelBinError(f"header bytes at offset 6: {header_bytes} instead of {HEADER_BYTES}")
    name, profile_offset, profile_bytes, crc = _TAIL.unpack_from(blob, _FIXED.size + _CODES.size)
    if crc != zlib.crc32(blob[:252]):
        raise ModelBinError(f"header CRC at offset 252: {crc:#010x} instead of {zlib.crc32(blob[:252]):#010x}: damaged")
    if total != len(blob):
        raise ModelBinError(f"total bytes at offset 8: {total}, but there are {len(blob)}")
    flags, digest, signature, count, reserved = fields[12:17]
    if flags & ~FLAG_SIGNED:
        raise ModelBinError(f"flags at offset 44: unknown bits in {flags:#x}")
    if reserved:
        raise ModelBinError("reserved bytes at offset 146 are not zero")
    if hashlib.sha256(blob[HEADER_BYTES:]).digest() != digest:
        raise ModelBinError("SHA-256 at offset 48 does not match the content: damaged")
    tflite, plan, answers, profile = _sections(blob, (*fields[6:12], profile_offset, profile_bytes))
    if tflite is None:
        raise ModelBinError(".tflite section at offset 20 is empty")
    codes = _CODES.unpack_from(blob, _FIXED.size)
    if count > MAX_OPERATOR_CODES or any(codes[count:]) or list(codes[:count]) != sorted(set(codes[:count])):
        raise ModelBinError(f"operator codes at offset 144: {count} codes, not ascending or followed by junk")
    stripped = name.rstrip(b"\0")
    if not _name_ok(stripped):
        raise ModelBinError(f"model name at offset 212: {name!r}")
    return ModelBin(
        name=stripped.decode("utf-8"),
        tflite=tflite,
        plan=plan,
        known_answers=None if answers is None else _parse_answers(answers),
        arena_tflm_bytes=arena_tflm,
        arena_direct_bytes=arena_direct,
        operator_codes=codes[:count],
        sha256=digest,
        signature=signature if flags & FLAG_SIGNED else None,
        input_profile=None if profile is None else _parse_profile(profile),
    )


def _parse_profile(section: bytes) -> InputProfile:
    try:
        return parse_profile(section)
    except ExportError as error:
        raise ModelBinError(str(error)) from error


def _name_ok(name: bytes) -> bool:
    if not 1 <= len(name) <= NAME_BYTES or any(c < 0x20 or c in b'"\\\x7f' for c in name):
        return False
    return name.decode("utf-8", "replace").encode("utf-8") == name


def _sections(blob: bytes, values: Tuple[int, ...]) -> List[Optional[bytes]]:
    found: List[Optional[bytes]] = []
    end = HEADER_BYTES
    for i, what in enumerate((".tflite", "plan", "known-answer", "input-profile")):
        offset, count = values[2 * i : 2 * i + 2]
        if offset == 0 and count == 0:
            found.append(None)
            continue
        if offset % ALIGNMENT or offset < end or count == 0 or offset + count > len(blob):
            raise ModelBinError(
                f"{what} section at offset {20 + 8 * i if i < 3 else 244}: bytes {offset}+{count} of {len(blob)}"
            )
        found.append(blob[offset : offset + count])
        end = offset + count
    return found


def _pack_answers(answers: KnownAnswers) -> bytes:
    inputs, outputs = answers.inputs, answers.outputs
    if inputs.dtype != np.int8 or outputs.dtype != np.int8 or inputs.ndim != 2 or outputs.ndim != 2:
        raise ModelBinError("known answers must be int8 matrices, one row per inference")
    if len(inputs) != len(outputs):
        raise ModelBinError(f"known answers: {len(inputs)} inputs but {len(outputs)} outputs")
    rows = b"".join(x.tobytes() + y.tobytes() for x, y in zip(inputs, outputs))
    return struct.pack("<III", len(inputs), inputs.shape[1], outputs.shape[1]) + rows


def _parse_answers(section: bytes) -> KnownAnswers:
    if len(section) < 12:
        raise ModelBinError(f"known-answer section of {len(section)} bytes has no counts")
    rows, input_bytes, output_bytes = struct.unpack_from("<III", section)
    if len(section) != 12 + rows * (input_bytes + output_bytes):
        raise ModelBinError(
            f"known-answer section has {len(section)} bytes, {rows} rows of {input_bytes}+{output_bytes} do not fit"
        )
    table = np.frombuffer(section, np.int8, offset=12).reshape(rows, input_bytes + output_bytes)
    return KnownAnswers(table[:, :input_bytes].copy(), table[:, input_bytes:].copy())
