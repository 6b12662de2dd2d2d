"""A message body: a CBOR header and raw little-endian tensors, compressed together.

Layout: `EWB`, version byte, then one zstd frame of: u32 header length, CBOR header, tensors back to back in the order
of the header's `tensors` list of [name, dtype, shape]. Nothing is allocated before its announced size is checked, and
nothing but plain CBOR types is accepted (wire/cbor.py).
"""

import io
import struct
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import cbor2
import numpy as np
import zstandard

from orchestrator.errors import WireError
from orchestrator.wire.cbor import NARROW, WIDE, Limits, read_cbor
from orchestrator.wire.plain import plain

VERSION = 1
MAX_HEADER_BYTES = WIDE.bytes
PRESENCE_BYTES = 4 + NARROW.bytes
"""Of a presence, unpacked."""
MAX_BYTES = 512 << 20
"""Of any message, unpacked, whatever its header says."""

_MAGIC = b"EWB"
_STEP_BYTES = 1 << 20
_DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64")
}
_MAX_WINDOW_BYTES = 8 << 20  # zstd's own bound on what it looks back; `encode_body` uses up to 2 MiB
_FIRST_LOOK_BYTES = 16 << 10
_MAX_EXTENT = 1 << 40

Header = Dict[str, Any]
Tensors = Dict[str, np.ndarray]
Most = Union[int, Callable[[Header], int]]


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


def decode_body(body: bytes, most: "Most", limits: Limits = WIDE) -> Tuple[Header, Tensors]:
    """Parses what `encode_body` wrote; raises WireError for anything else, or for more content than `most`.

    most: bytes of header and tensors together; or what gives them for a header, which is then read before the rest is
    unpacked: so a message may be no larger than its kind, from this sender, can be. The tensors are read-only views.
    """
    if body[:3] != _MAGIC:
        raise WireError("not an Edgeward message: wrong first bytes")
    if len(body) < 4 or body[3] != VERSION:
        found = body[3] if len(body) > 3 else "nothing"
        raise WireError(f"message version {found}, this program speaks version {VERSION}: update the older side")
    frame = memoryview(body)[4:]
    announced = _announced(frame)
    if not isinstance(most, int):
        if announced > MAX_BYTES:
            raise WireError(f"message announces {announced} bytes, at most {MAX_BYTES} are accepted")
        header, _ = _read_header(_beginning(frame, min(announced, 4 + limits.bytes)), announced, limits)
        most = most(header)
    if announced > most:
        raise WireError(f"message announces {announced} bytes, at most {most} are accepted")
    content = _decompress(frame, announced)
    header, offset = _read_header(content, len(content), limits)
    tensors = _read_tensors(header.pop("tensors", []), content, offset, limits)
    return header, tensors


def _announced(frame: memoryview) -> int:
    """Bytes of the content, as the frame states them."""
    try:
        announced = int(zstandard.frame_content_size(frame))
    except zstandard.ZstdError as error:
        raise WireError(f"message does not decompress: {error}") from error
    if announced < 0:
        raise WireError("compressed message does not state its size")
    return announced


def _beginning(frame: memoryview, size: int) -> bytes:
    """Up to `size` bytes of the content, as much as it takes to see its header."""
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).stream_reader(frame)
        begun: bytes = reader.read(min(size, _FIRST_LOOK_BYTES))
        if len(begun) >= 4:
            wanted = min(size, 4 + struct.unpack_from("<I", begun)[0])
            begun += reader.read(wanted - len(begun)) if wanted > len(begun) else b""
    except (zstandard.ZstdError, MemoryError) as error:
        raise WireError(f"message does not decompress: {error}") from error
    return begun


def _decompress(frame: memoryview, announced: int) -> bytes:
    try:
        content: bytes = zstandard.ZstdDecompressor().decompress(frame, max_output_size=announced)
    except (zstandard.ZstdError, MemoryError) as error:
        raise WireError(f"message does not decompress: {error}") from error
    return content


def _read_header(content: bytes, size: int, limits: Limits) -> Tuple[Header, int]:
    """(header, where it ends) of a message of `size` bytes, of which at least the header is in `content`."""
    if len(content) < 4:
        raise WireError("message shorter than its header length field")
    (header_bytes,) = struct.unpack_from("<I", content)
    end = 4 + header_bytes
    if header_bytes > limits.bytes or end > size or end > len(content):
        raise WireError(f"message header of {header_bytes} bytes does not fit its message of {size} bytes")
    header = read_cbor(content[4:end], limits)
    if not isinstance(header, dict):
        raise WireError(f"message header is a {type(header).__name__}, expected a map")
    return header, end


def _read_tensors(described: Any, content: bytes, offset: int, limits: Limits) -> Tensors:
    if not isinstance(described, list):
        raise WireError("message header: `tensors` is not a list")
    if len(described) > limits.tensors:
        raise WireError(f"message with {len(described)} tensors, at most {limits.tensors} are accepted")
    tensors: Tensors = {}
    for entry in described:
        if not (
            isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and isinstance(entry[2], list)
        ):
            raise WireError("message header: a tensor is described by [name, dtype, shape]")
        name, dtype_name, shape = entry
        shown = plain(repr(name), 80)
        dtype = _DTYPES.get(dtype_name) if isinstance(dtype_name, str) else None
        if dtype is None:
            raise WireError(
                f"tensor {shown} has dtype {plain(repr(dtype_name), 40)}, the wire carries {', '.join(_DTYPES)}"
            )
        if len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
            raise WireError(f"tensor {shown} has the shape {plain(repr(shape), 80)}")
        if name in tensors:
            raise WireError(f"tensor {shown} is there twice")
        count = extent = 1  # extent: without regard to dimensions of 0, beside which the others are bounded too
        for n in shape:
            count, extent = count * n, extent * max(1, n)
        if offset + count * dtype.itemsize > len(content) or extent > _MAX_EXTENT:
            raise WireError(f"tensor {shown} of shape {shape} runs past the end of its message")
        tensors[name] = np.frombuffer(content, dtype, count, offset).reshape(shape)
        offset += count * dtype.itemsize
    if offset != len(content):
        raise WireError(f"{len(content) - offset} bytes follow the last tensor of the message")
    return tensors


def require(header: Mapping[str, Any], key: str, kind: Any) -> Any:
    """`header[key]`, checked to be of type `kind`; WireError names the key otherwise."""
    value = header.get(key)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted, found, what = "/".join(k.__name__ for k in kinds), plain(repr(value), 80), header.get("kind")
        raise WireError(f"message of kind {plain(repr(what), 40)}: field {key!r} is {found}, expected {wanted}")
    return value
