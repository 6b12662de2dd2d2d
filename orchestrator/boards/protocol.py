"""What a board and its host say to each other: records one way, frames the other. Pure bytes in, objects out.

A record is one line, `@ew <json>*<crc16>`; whatever else is on the line or between lines is skipped. A frame is 0x00,
COBS bytes, 0x00; decoded u8 type, u32 id, body, u16 CRC-16 (little-endian). firmware/core/output.h and input_parser.h are
the other side; docs/serial.md has every frame and record.
"""

from __future__ import annotations

import binascii
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from orchestrator.wire.board_records import SCHEMA, read_record
from orchestrator.wire.sequence import Sequence

RECORD_SCHEMA = SCHEMA
FRAME_INFER = 0x01
FRAME_UPDATE_BEGIN = 0x10
FRAME_UPDATE_CHUNK = 0x11
FRAME_UPDATE_COMMIT = 0x12
FRAME_SAMPLES = 0x20
FRAME_SETTINGS = 0x30
MAX_LINE_BYTES = 256 * 1024

_END = re.compile(rb"\}\*([0-9a-f]{4})")
_MARK = b"@ew "


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF."""
    return binascii.crc_hqx(data, 0xFFFF)


def encode_frame(kind: int, number: int, body: bytes) -> bytes:
    """One frame as it goes over the wire; `number` (u32) comes back in the record that answers it."""
    from cobs import cobs

    payload = struct.pack("<BI", kind, number) + body
    return b"\0" + cobs.encode(payload + struct.pack("<H", crc16(payload))) + b"\0"


@dataclass(frozen=True)
class Record:
    """One record of a board. `fields` are those of its kind; firmware/core/board.cpp names them."""

    boot: str
    """Random per boot, 8 hex digits."""
    seq: int
    """Counts the records of a boot from 0."""
    model: Optional[str]
    """Digest of the model in use, in an error about a slot that of the model refused; None without any."""
    t_us: int
    kind: str
    schema: int
    fields: Dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, Any]:
        head = {"boot": self.boot, "seq": self.seq, "model": self.model, "t_us": self.t_us, "kind": self.kind}
        return {**head, **self.fields}


@dataclass
class RecordStats:
    received: int = 0
    lost: int = 0
    """Sequence numbers that were skipped, whether their record was damaged or never came."""
    corrupt: int = 0
    """Damaged records seen, and such whose fields are not of the types docs/serial.md gives them."""
    boots: int = 0
    """Different boot ids seen; more than one means the board restarted."""

    def as_dict(self) -> Dict[str, int]:
        return {"received": self.received, "lost": self.lost, "corrupt": self.corrupt}


class RecordParser:
    """Feed it whatever arrives, in pieces of any size; it gives the intact records and counts the rest."""

    def __init__(self) -> None:
        self.stats = RecordStats()
        self._pending = bytearray()
        self._sequence = Sequence()

    def feed(self, data: bytes) -> List[Record]:
        self._pending += data
        *lines, rest = self._pending.split(b"\n")
        if len(rest) > MAX_LINE_BYTES:  # no board sends such a line: it is noise without line ends
            self.stats.corrupt += rest.count(_MARK)
            rest = bytearray()
        self._pending = bytearray(rest)
        return [record for line in lines for record in self._line(bytes(line))]

    def forget_pending(self) -> None:
        """Drop a half line: the connection was lost, and what comes next does not continue it."""
        self._pending.clear()

    def _line(self, line: bytes) -> List[Record]:
        found = []
        for part in line.split(_MARK)[1:]:  # two records share a line when the line end between them was damaged
            record = parse_record(part)
            if record is None:
                self.stats.corrupt += 1
            else:
                self._count(record)
                found.append(record)
        return found

    def _count(self, record: Record) -> None:
        self.stats.received += 1
        self._sequence.take(record.boot, record.seq)
        self.stats.lost, self.stats.boots = self._sequence.lost, self._sequence.boots


def parse_record(text: bytes) -> Optional[Record]:
    """What follows `@ew `, up to and possibly beyond the CRC; None where it is damaged, or no record of a board."""
    found = _json_of(text)
    if found is None:
        return None
    content = read_record(found, MAX_LINE_BYTES)
    if content is None:
        return None
    boot, seq, model, t_us, kind, schema = (content.pop(key) for key in ("boot", "seq", "model", "t_us", "kind", "v"))
    return Record(boot, seq, model, t_us, kind, schema, content)


def _json_of(text: bytes) -> Optional[bytes]:
    """The shortest beginning of `text` that its CRC confirms: where line ends were damaged, other records may follow."""
    if not text.startswith(b"{"):
        return None
    checked, crc = 0, crc16(b"")
    for end in _END.finditer(text):
        closing = end.start() + 1
        crc = binascii.crc_hqx(text[checked:closing], crc)
        checked = closing
        if int(end[1], 16) == crc:
            return text[:closing]
    return None
