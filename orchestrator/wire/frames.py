"""One MQTT payload: a chunk of a transfer, its acknowledgement, or the list of chunks still wanted.

A transfer is one message body, named by its SHA-256: sending it again is the same transfer, so every resend is
idempotent. Layout, little-endian: `EWF`, version u8, CRC-32 of all that follows u32, type u8, id 32 bytes; then per type
    chunk  index u32, count u32, total bytes u64, data
    ack    nothing
    want   count u32, then the missing indices as u32
"""

import struct
import zlib
from dataclasses import dataclass
from typing import List, Tuple, Union

from orchestrator.errors import WireError

VERSION = 2
CHUNK_BYTES = 256 * 1024
MAX_WANTED = 16_384
_MAGIC = b"EWF"
_PREFIX = struct.Struct("<3sBI")
_NAME = struct.Struct("<B32s")
_CHUNK = struct.Struct("<IIQ")
_TYPE_CHUNK, _TYPE_ACK, _TYPE_WANT = 1, 2, 3


@dataclass(frozen=True)
class Chunk:
    id: bytes
    index: int
    count: int
    total_bytes: int
    data: "bytes | memoryview"


@dataclass(frozen=True)
class Ack:
    id: bytes


@dataclass(frozen=True)
class Want:
    id: bytes
    missing: Tuple[int, ...]


Frame = Union[Chunk, Ack, Want]


def encode_frame(frame: Frame) -> bytes:
    if isinstance(frame, Chunk):
        fields = _CHUNK.pack(frame.index, frame.count, frame.total_bytes)
        return _sealed(_NAME.pack(_TYPE_CHUNK, frame.id) + fields, frame.data)
    if isinstance(frame, Ack):
        return _sealed(_NAME.pack(_TYPE_ACK, frame.id), b"")
    missing = frame.missing[:MAX_WANTED]
    return _sealed(_NAME.pack(_TYPE_WANT, frame.id), struct.pack(f"<I{len(missing)}I", len(missing), *missing))


def _sealed(head: bytes, rest: "bytes | memoryview") -> bytes:
    return b"".join((_PREFIX.pack(_MAGIC, VERSION, zlib.crc32(rest, zlib.crc32(head))), head, rest))


def decode_frame(payload: bytes) -> Frame:
    """Parses one MQTT payload; raises WireError with the reason for anything that is not a frame of this version.

    A chunk's data is a view of `payload`.
    """
    if len(payload) < 4 or payload[:3] != _MAGIC:
        raise WireError("not an Edgeward frame: wrong first bytes")
    if payload[3] != VERSION:
        raise WireError(f"frame version {payload[3]}, this program speaks version {VERSION}: update the older side")
    if len(payload) < _PREFIX.size + _NAME.size:
        raise WireError(f"frame of {len(payload)} bytes is shorter than its prefix of {_PREFIX.size + _NAME.size}")
    content = memoryview(payload)[_PREFIX.size :]
    if zlib.crc32(content) != _PREFIX.unpack_from(payload)[2]:
        raise WireError(f"frame of {len(payload)} bytes was damaged on its way: its CRC-32 does not match")
    kind, transfer = _NAME.unpack_from(content)
    rest = content[_NAME.size :]
    if kind == _TYPE_CHUNK:
        return _decode_chunk(transfer, rest)
    if kind == _TYPE_ACK and not rest:
        return Ack(transfer)
    if kind == _TYPE_WANT and len(rest) >= 4:
        (count,) = struct.unpack_from("<I", rest)
        if count <= MAX_WANTED and len(rest) == 4 + 4 * count:
            return Want(transfer, struct.unpack_from(f"<{count}I", rest, 4))
    raise WireError(f"frame of type {kind} with {len(rest)} bytes makes no sense")


def _decode_chunk(transfer: bytes, rest: memoryview) -> Chunk:
    if len(rest) < _CHUNK.size:
        raise WireError("chunk frame is shorter than its fields")
    index, count, total_bytes = _CHUNK.unpack_from(rest)
    data = rest[_CHUNK.size :]
    if count < 1 or index >= count:
        raise WireError(f"chunk {index} of {count}")
    if count != chunk_count(total_bytes):
        raise WireError(f"{total_bytes} bytes do not make {count} chunks of {CHUNK_BYTES}")
    expected = min(CHUNK_BYTES, total_bytes - index * CHUNK_BYTES)
    if len(data) != expected:
        raise WireError(f"chunk {index} of {count} has {len(data)} bytes, expected {expected}")
    return Chunk(transfer, index, count, total_bytes, data)


def chunk_count(total_bytes: int) -> int:
    """Chunks of a body of this size; an empty body is one empty chunk."""
    return max(1, -(-total_bytes // CHUNK_BYTES))


def cut(transfer: bytes, body: bytes, index: int) -> Chunk:
    """One chunk of `body`, as a view of it."""
    data = memoryview(body)[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
    return Chunk(transfer, index, chunk_count(len(body)), len(body), data)


def split(transfer: bytes, body: bytes) -> List[Chunk]:
    """All chunks of `body`, in order."""
    return [cut(transfer, body, i) for i in range(chunk_count(len(body)))]
