"""CBOR (RFC 8949) as headers use it, read with limits on everything: sizes, counts, depth, digits.

Maps with text keys, lists, text, bytes, whole numbers of 64 bits, floats, true, false and null. Nothing else is read: tags
(numbers of any length, references, dates, patterns), lengths that come later, and anything beyond the limits are refused before
anything is made of them. Written with cbor2; read here, so that what a header can be is decided in one place.
"""

import struct
from dataclasses import dataclass
from typing import Any, Dict, List

from orchestrator.errors import WireError

_FLOATS = {25: struct.Struct(">e"), 26: struct.Struct(">f"), 27: struct.Struct(">d")}
_SIMPLE = {20: False, 21: True, 22: None}
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _OTHER = range(8)


@dataclass(frozen=True)
class Limits:
    """What a header may hold. bytes: of the whole; text_bytes: of one text or byte string; items: values and keys, all levels."""

    bytes: int = 1 << 20
    depth: int = 32
    items: int = 200_000
    text_bytes: int = 64 << 10
    tensors: int = 64


WIDE = Limits()
NARROW = Limits(bytes=16 << 10, depth=8, items=1000, text_bytes=4096, tensors=0)
"""Of messages that say little: presence."""


def read_cbor(data: bytes, limits: Limits = WIDE) -> Any:
    """The one value in `data`; WireError for anything that is not plain, not whole, or beyond the limits."""
    reader = _Reader(data, limits)
    value = reader.item(0)
    if reader.at != len(data):
        raise WireError(f"message header: {len(data) - reader.at} bytes follow its CBOR")
    return value


class _Reader:
    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data, self._limits, self._items = data, limits, 0
        self.at = 0

    def item(self, depth: int) -> Any:
        self._items += 1
        if self._items > self._limits.items:
            raise WireError(f"message header holds more than {self._limits.items} values")
        first = self._take(1)[0]
        major, short = first >> 5, first & 31
        if major == _OTHER:
            return self._other(short)
        number = self._number(short)
        if major in (_UNSIGNED, _NEGATIVE):
            if number >= 1 << 63:
                raise WireError("message header holds a number of more than 64 bits")
            return number if major == _UNSIGNED else -1 - number
        if major in (_BYTES, _TEXT):
            return self._string(number, major == _TEXT)
        if major == _TAG:
            raise WireError(f"message header holds the tag {number}; only plain CBOR types are accepted")
        if depth >= self._limits.depth:
            raise WireError(f"message header is nested more than {self._limits.depth} levels deep")
        return self._list(number, depth) if major == _LIST else self._map(number, depth)

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise WireError("message header is not CBOR: it ends too early")
        taken, self.at = self._data[self.at : end], end
        return taken

    def _number(self, short: int) -> int:
        if short < 24:
            return short
        if short > 27:
            raise WireError("message header is not CBOR of known lengths")
        return int.from_bytes(self._take(1 << (short - 24)), "big")

    def _other(self, short: int) -> Any:
        if short in _FLOATS:
            form = _FLOATS[short]
            return form.unpack(self._take(form.size))[0]
        if short > 27:
            raise WireError("message header is not CBOR of known lengths")
        if short not in _SIMPLE:
            raise WireError("message header holds a simple value; only plain CBOR types are accepted")
        return _SIMPLE[short]

    def _string(self, size: int, text: bool) -> Any:
        if size > self._limits.text_bytes:
            raise WireError(
                f"message header holds {size} bytes in one value, at most {self._limits.text_bytes} are read"
            )
        taken = self._take(size)
        if not text:
            return taken
        try:
            return taken.decode("utf-8")
        except UnicodeDecodeError:
            raise WireError("message header holds text that is not UTF-8") from None

    def _list(self, count: int, depth: int) -> List[Any]:
        self._check_room(count)
        return [self.item(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> Dict[str, Any]:
        self._check_room(2 * count)
        found: Dict[str, Any] = {}
        for _ in range(count):
            key = self.item(depth + 1)
            if not isinstance(key, str):
                raise WireError("message header holds a map with a key that is not text")
            if key in found:
                raise WireError(f"message header names {key[:40]!r} twice in one map")
            found[key] = self.item(depth + 1)
        return found

    def _check_room(self, count: int) -> None:
        """Every item takes a byte at least: what cannot be there is not waited for."""
        if count > len(self._data) - self.at:
            raise WireError("message header is not CBOR: it ends too early")
