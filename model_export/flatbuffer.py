"""Flatbuffers without a schema compiler: tables read with every offset checked, and written.

A reader follows no offset it has not checked against the file, so damaged bytes give TfliteError and nothing else. A writer
lays out each table before what it refers to; the same content always gives the same bytes.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from model_export.errors import TfliteError

MAX_FIELDS = 64


class FlatFile:
    """The bytes, with a bound on how much may be read from them: tables may share bytes, but not without end."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.budget = 16 * len(blob) + 65536

    def check(self, position: int, size: int, what: str) -> None:
        if position < 0 or size < 0 or position + size > len(self.blob):
            raise TfliteError(f"{what}: bytes {position} to {position + size} lie outside the file of {len(self.blob)}")

    def spend(self, size: int, what: str) -> None:
        self.budget -= size
        if self.budget < 0:
            raise TfliteError(f"{what}: the file refers to the same bytes over and over")

    def unpack(self, fmt: str, position: int, what: str) -> Any:
        self.check(position, struct.calcsize(fmt), what)
        return struct.unpack_from(fmt, self.blob, position)[0]

    def follow(self, position: int, what: str) -> int:
        return position + self.unpack("<I", position, what)

    def vector(self, position: int, item_bytes: int, what: str) -> Tuple[int, int]:
        """Position of the first item and the number of items of the vector at `position`."""
        count = self.unpack("<I", position, what)
        self.check(position + 4, count * item_bytes, what)
        return position + 4, count

    def table(self, position: int, what: str) -> FlatTable:
        return FlatTable(self, position, what)


class FlatTable:
    def __init__(self, file: FlatFile, position: int, what: str) -> None:
        self.file, self.position, self.what = file, position, what
        self.vtable = position - file.unpack("<i", position, what)
        self.vtable_bytes = file.unpack("<H", self.vtable, what)
        file.check(self.vtable, self.vtable_bytes, what)
        file.spend(16, what)

    def only(self, *known: int) -> FlatTable:
        """This table, or TfliteError where it has a field that is not in `known`."""
        slots = (self.vtable_bytes - 4) // 2
        if slots > MAX_FIELDS:
            raise TfliteError(f"{self.what}: a table of {slots} fields, at most {MAX_FIELDS} are accepted")
        for field in range(slots):
            if field not in known and self._at(field) is not None:
                raise TfliteError(f"{self.what}: has field {field}, which is not accepted here")
        return self

    def _at(self, field: int) -> Optional[int]:
        slot = 4 + 2 * field
        if slot + 2 > self.vtable_bytes:
            return None
        offset = self.file.unpack("<H", self.vtable + slot, self.what)
        return self.position + offset if offset else None

    def where(self, field: int) -> Optional[int]:
        """Position of a field's bytes in the file; None where it is left out."""
        return self._at(field)

    def scalar(self, field: int, fmt: str, default: Any) -> Any:
        at = self._at(field)
        return default if at is None else self.file.unpack(fmt, at, self.what)

    def vector(self, field: int, dtype: str) -> np.ndarray:
        at = self._at(field)
        item = np.dtype(dtype)
        if at is None:
            return np.zeros(0, item)
        start, count = self.file.vector(self.file.follow(at, self.what), item.itemsize, self.what)
        self.file.spend(count * item.itemsize, self.what)
        return np.frombuffer(self.file.blob, item, count, start)

    def raw(self, field: int) -> Tuple[int, int]:
        """Position and length of a byte vector that is only pointed to, not read; (0, 0) when it is absent."""
        return self.place(field, 1)

    def place(self, field: int, item_bytes: int) -> Tuple[int, int]:
        """Position of the first item of a vector, and how many there are; (0, 0) when it is absent."""
        at = self._at(field)
        return (0, 0) if at is None else self.file.vector(self.file.follow(at, self.what), item_bytes, self.what)

    def text(self, field: int) -> str:
        return self.vector(field, "u1").tobytes().decode("utf-8", "replace")

    def sub(self, field: int, what: str) -> Optional[FlatTable]:
        at = self._at(field)
        return None if at is None else self.file.table(self.file.follow(at, self.what), what)

    def tables(self, field: int, what: str, most: Optional[int] = None) -> List[FlatTable]:
        """The tables of a vector; TfliteError where there are more than `most`."""
        at = self._at(field)
        if at is None:
            return []
        start, count = self.file.vector(self.file.follow(at, self.what), 4, what)
        if most is not None and count > most:
            raise TfliteError(f"{what}: {count} of them, at most {most} are accepted")
        return [self.file.table(self.file.follow(start + 4 * i, what), f"{what}[{i}]") for i in range(count)]


class Blob:
    """A vector of scalars to write, its content aligned to `alignment` bytes."""

    def __init__(self, array: np.ndarray, alignment: int = 4) -> None:
        self.array, self.alignment = array, alignment


Value = Union[Tuple[str, Any], str, Blob, "Fields", List["Fields"]]
"""(struct format, number), text, a vector of scalars, a table, or a vector of tables."""
Fields = Dict[int, Value]
"""A table to write, by field number. A field that is left out has its default."""


def write_flatbuffer(root: Fields, identifier: bytes) -> bytes:
    """The bytes of a flatbuffer with this root table. `identifier`: the four bytes behind its offset."""
    out = bytearray(8)
    out[4:8] = identifier
    struct.pack_into("<I", out, 0, _write_table(out, root))
    return bytes(out)


def _write_table(out: bytearray, fields: Fields) -> int:
    """Appends vtable, table and all it refers to; the position of the table."""
    inline: List[Tuple[int, str, Any]] = []  # widest first, so that no padding is needed between them
    for number, value in sorted(fields.items()):
        fmt, content = value if isinstance(value, tuple) else ("<I", 0)
        inline.append((number, fmt, content))
    inline.sort(key=lambda item: -struct.calcsize(item[1]))
    widest = max([4, *(struct.calcsize(fmt) for _, fmt, _ in inline)])
    slots = max(fields, default=-1) + 1
    vtable_bytes = 4 + 2 * slots
    _align(out, 4)
    while (len(out) + vtable_bytes) % 4 or (len(out) + vtable_bytes + 4) % widest:
        out.append(0)
    vtable, position = len(out), len(out) + vtable_bytes
    offsets, at = [0] * slots, 4
    for number, fmt, _ in inline:
        offsets[number] = at
        at += struct.calcsize(fmt)
    out += struct.pack(f"<HH{slots}H", vtable_bytes, at, *offsets)
    out += struct.pack("<i", position - vtable)
    for _, fmt, content in inline:
        out += struct.pack(fmt, content)
    for number, value in sorted(fields.items()):
        if not isinstance(value, tuple):
            _refer(out, position + offsets[number], _write_vector(out, value))
    return position


def _write_vector(out: bytearray, value: Union[str, Blob, Fields, List[Fields]]) -> int:
    if isinstance(value, dict):
        return _write_table(out, value)
    if isinstance(value, list):
        return _write_tables(out, value)
    blob = Blob(np.frombuffer(value.encode() + b"\0", np.uint8)) if isinstance(value, str) else value
    count = (
        blob.array.size - 1 if isinstance(value, str) else blob.array.size
    )  # text ends with a zero outside its length
    while (len(out) + 4) % blob.alignment:
        out.append(0)
    _align(out, 4)
    position = len(out)
    out += struct.pack("<I", count) + blob.array.tobytes()
    return position


def _write_tables(out: bytearray, tables: List[Fields]) -> int:
    _align(out, 4)
    position = len(out)
    out += struct.pack("<I", len(tables)) + bytes(4 * len(tables))
    for i, table in enumerate(tables):
        at = position + 4 + 4 * i
        _refer(out, at, _write_table(out, table))
    return position


def _refer(out: bytearray, at: int, target: int) -> None:
    struct.pack_into("<I", out, at, target - at)


def _align(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)
