"""A message body: a CBOR header and raw little-endian tensors, compressed together.

Layout: `EWB`, version byte, then one zstd frame of: u32 header length, CBOR header, tensors back to back in the order
of the header's `tensors` list of [name, dtype, shape]. Nothing is allocated before its announced size is checked, and
nothing but plain CBOR types is accepted.
"""

import io
import struct
from typing import Any, Dict, List, Mapping, Optional, Tuple

import cbor2
import numpy as np
import zstandard

from orchestrator.errors import WireError

VERSION = 1
MAX_HEADER_BYTES = 1 << 20
_MAGIC = b"EWB"
_STEP_BYTES = 1 << 20
_DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64")
}
_SMALLEST = -(1 << 63)
_PLAIN = (dict, list, str, bytes, int, float, bool, type(None))

Header = Dict[str, Any]
Tensors = Dict[str, np.ndarray]


def encode_body(header: Mapping[str, Any], tensors: Optional[Mapping[str, np.ndarray]] = None, level: int = 3) -> bytes:
    """Serializes `header` (plain CBOR types) and `tensors` (any shape, dtypes of the wire) into one body."""
    described: List[Any] = []
    raw: List[Any] = []  # buffers of bytes
    for name, array in (tensors or {}).items():
        dtype = array.dtype.name
        if dtype not in _DTYPES:
            raise WireError(f"tensor {name!r} has dtype {dtype}, the wire carries {', '.join(_DTYPES)}")
        described.append([name, dtype, list(array.shape)])
        raw.append(np.ascontiguousarray(array, _DTYPES[dtype]).reshape(-1).view(np.uint8).data)
    packed = cbor2.dumps({**header, "tensors": described})
    if len(packed) > MAX_HEADER_BYTES:
        raise WireError(f"message header of {len(packed)} bytes, at most {MAX_HEADER_BYTES} fit")
    size = 4 + len(packed) + sum(map(len, raw))
    body = io.BytesIO()  # compressed piece by piece: no copy of the tensors
    body.write(_MAGIC + bytes([VERSION]))
    compressor = zstandard.ZstdCompressor(level=level).compressobj(size=size)
    parts: List[Any] = [struct.pack("<I", len(packed)), packed, *raw]
    for part in parts:
        for start in range(0, len(part), _STEP_BYTES):
            body.write(compressor.compress(part[start : start + _STEP_BYTES]))
    body.write(compressor.flush())
    return body.getvalue()


def decode_body(body: bytes, max_bytes: int) -> Tuple[Header, Tensors]:
    """Parses what `encode_body` wrote; raises WireError for anything else, or for more than `max_bytes` of content.

    The tensors are read-only views.
    """
    if body[:3] != _MAGIC:
        raise WireError("not an Edgeward message: wrong first bytes")
    if len(body) < 4 or body[3] != VERSION:
        found = body[3] if len(body) > 3 else "nothing"
        raise WireError(f"message version {found}, this program speaks version {VERSION}: update the older side")
    content = _decompress(memoryview(body)[4:], max_bytes)
    if len(content) < 4:
        raise WireError("message shorter than its header length field")
    (header_bytes,) = struct.unpack_from("<I", content)
    if header_bytes > MAX_HEADER_BYTES or 4 + header_bytes > len(content):
        raise WireError(f"message header of {header_bytes} bytes does not fit its message of {len(content)} bytes")
    try:
        header = cbor2.loads(content[4 : 4 + header_bytes])
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise WireError(f"message header is not CBOR: {error}") from error
    if not isinstance(header, dict):
        raise WireError(f"message header is a {type(header).__name__}, expected a map")
    _check_plain(header)
    tensors = _read_tensors(header.pop("tensors", []), content, 4 + header_bytes)
    return header, tensors


def _decompress(frame: memoryview, max_bytes: int) -> bytes:
    try:
        announced = zstandard.frame_content_size(frame)
        if announced < 0:
            raise WireError("compressed message does not state its size")
        if announced > max_bytes:
            raise WireError(f"message announces {announced} bytes, at most {max_bytes} are accepted")
        content: bytes = zstandard.ZstdDecompressor().decompress(frame, max_output_size=max_bytes)
    except zstandard.ZstdError as error:
        raise WireError(f"message does not decompress: {error}") from error
    return content


def _check_plain(value: Any, depth: int = 0) -> None:
    if depth > 32:
        raise WireError("message header is nested more than 32 levels deep")
    if type(value) not in _PLAIN:
        raise WireError(f"message header holds a {type(value).__name__}; only plain CBOR types are accepted")
    if isinstance(value, int) and not _SMALLEST <= value <= -_SMALLEST - 1:
        raise WireError("message header holds a whole number beyond 64 bits")  # no float, no column of a database
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise WireError("message header holds a map with a key that is not text")
            _check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)


def _read_tensors(described: Any, content: bytes, offset: int) -> Tensors:
    if not isinstance(described, list):
        raise WireError("message header: `tensors` is not a list")
    tensors: Tensors = {}
    for entry in described:
        if not (
            isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and isinstance(entry[2], list)
        ):
            raise WireError("message header: a tensor is described by [name, dtype, shape]")
        name, dtype_name, shape = entry
        dtype = _DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
        if dtype is None:
            raise WireError(f"tensor {name!r} has dtype {dtype_name!r}, the wire carries {', '.join(_DTYPES)}")
        if len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
            raise WireError(f"tensor {name!r} has the shape {shape!r}")
        count = 1
        for n in shape:
            count *= n
        if offset + count * dtype.itemsize > len(content):
            raise WireError(f"tensor {name!r} of shape {shape} runs past the end of its message")
        tensors[name] = np.frombuffer(content, dtype, count, offset).reshape(shape)
        offset += count * dtype.itemsize
    if offset != len(content):
        raise WireError(f"{len(content) - offset} bytes follow the last tensor of the message")
    return tensors


def require_map(header: Mapping[str, Any], key: str, kind: Any) -> Dict[str, Any]:
    """`header[key]`, checked to be a map from text to values of type `kind`."""
    found: Dict[str, Any] = require(header, key, dict)
    for name, value in found.items():
        if not isinstance(value, kind):
            raise WireError(f"{key} of {name}: {type(value).__name__}, expected {kind.__name__}")
    return found


def require(header: Mapping[str, Any], key: str, kind: Any) -> Any:
    """`header[key]`, checked to be of type `kind`; WireError names the key otherwise."""
    value = header.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, float)):
        wanted = "/".join(k.__name__ for k in kind) if isinstance(kind, tuple) else kind.__name__
        raise WireError(f"message of kind {header.get('kind')!r}: field {key!r} is {value!r}, expected {wanted}")
    return value
